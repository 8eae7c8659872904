"""What every field of a config means and which values it takes: for checks, messages and help."""

from typing import NamedTuple

from bifpn_jax.data.records import BAD_IMAGES
from bifpn_jax.models.convolutions import PADDINGS
from bifpn_jax.models.detector import PARTS
from bifpn_jax.models.efficientnet import BACKBONES
from bifpn_jax.models.feature_network import DOWNSAMPLINGS, UPSAMPLINGS
from bifpn_jax.models.fusion import NORMALIZERS
from bifpn_jax.models.layers import ACTIVATIONS
from bifpn_jax.models.networks import NETWORKS
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.train.schedule import DECAYS


class Field(NamedTuple):
    """A field of a config.

    Attributes:
        meaning: one sentence or two, with the unit.
        choices: all its values, if they can be counted.
        low, high: the lowest and the highest value, both allowed; None for no limit.
        above: a number that it must be greater than, instead of `low`.
        takes: what else there is to say of its values.
    """

    meaning: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    above: float | None = None
    takes: str = ""

    @property
    def limits(self) -> str:
        """The range in words, "between 0 and 1"; "" for any number."""
        if self.above is not None:
            return f"greater than {self.above:g}"
        if self.low is None:
            return ""
        low = f"{self.low:,}" if isinstance(self.low, int) else f"{self.low:g}"
        if self.high is None:
            return f"at least {low}"
        high = f"{self.high:,}" if isinstance(self.high, int) else f"{self.high:g}"
        return f"between {low} and {high}"

    def allows(self, number: float) -> bool:
        """Whether a number is in the range."""
        return (
            (self.above is None or number > self.above)
            and (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
        )


# Of the fields in "scaling".
_RECORDED = Field("A record, not read by anything.")

# What a value of a type is called.
KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "values in brackets",
}

_EXPRESSION = "a regular expression"
_COUNT = "a whole number, at least 1"
_ORDINARY = "false: ordinary ones of 3x3"

# Groups in their order, and what they are about.
GROUPS = {
    "": "The run",
    "model": "The network",
    "scaling": "For the record only: the rule of compound scaling, and where the model differs",
    "data": "The data",
    "augment": "Augmentation of training images",
    "train": "Training",
    "schedule": "The learning rate",
    "optimizer": "The optimizer",
    "loss": "The loss",
    "eval": "Evaluation",
    "checkpoint": "Checkpoints",
    "log": "The log",
}

FIELDS = {
    "name": Field("Name of the run, and of its folder in runs/ where --workdir is not given."),
    "study": Field("The study in configs/ablations that the run belongs to; empty: none."),
    "seed": Field("Of initial values, image order and augmentation.", low=0, high=2**32 - 1),
    "init_from": Field(
        "Weights to start from: a file, a workdir or the name of published ones; empty: fresh ones."
    ),
    "init_only": Field(
        "Which variables to take from init_from, by their paths; empty: all that are there.",
        takes=_EXPRESSION,
    ),
    "ema_decay": Field(
        "Decay per step of the averaged weights; 0: they are the newest.", low=0.0, high=1.0
    ),
    "model.name": Field("The released model that the rest starts from.", tuple(MODELS)),
    "model.num_classes": Field(
        "Number of classes; 0: as many as the data has.", takes="a whole number, 0 or more"
    ),
    "model.backbone": Field("EfficientNet; nano is half of b0.", tuple(BACKBONES)),
    "model.image_hw": Field(
        "Height and width in pixels of the frame that images are fitted into.",
        takes="two numbers from 32 to 8192, such as (512, 640), or one for a square",
    ),
    "model.width": Field("Channels of the feature network and the heads.", low=1),
    "model.network_repeats": Field("Cells of the feature network.", low=1),
    "model.head_repeats": Field("Convolutions of each head before its last.", low=1),
    "model.feature_network": Field(
        "How features of several levels are joined.",
        takes=f'{", ".join(NETWORKS)}; nodes of your own, "6:3,4 5:2,5 …"; or a file of them',
    ),
    "model.fusion": Field("How a node weighs its inputs.", tuple(NORMALIZERS)),
    "model.separable": Field(
        f"In the feature network depthwise separable convolutions; {_ORDINARY}."
    ),
    "model.separable_heads": Field(f"The same in the heads; {_ORDINARY}."),
    "model.upsampling": Field("Of features in the feature network.", tuple(UPSAMPLINGS)),
    "model.downsampling": Field("Of features in the feature network.", DOWNSAMPLINGS),
    "model.padding": Field(
        "Of convolutions: same as TensorFlow pads, symmetric as PyTorch does, for weights that "
        "were trained like that.",
        tuple(PADDINGS),
    ),
    "model.backbone_padding": Field(
        "The same for the backbone, where it differs; empty: as padding.", ("", *PADDINGS)
    ),
    "model.conv_bias": Field(
        "A bias before batch norm in feature network and heads, which is published but redundant."
    ),
    "model.expanded_features": Field(
        "Take the backbone's features inside a block, before its projection."
    ),
    "model.activation": Field("Of all layers.", tuple(ACTIVATIONS)),
    "model.min_level": Field("The finest level; level l has stride 2^l.", takes="3, 4 or 5"),
    "model.max_level": Field("The coarsest level.", takes="a whole number from 5 to 10"),
    "model.anchor_scale": Field(
        "Size of a level's smallest anchor in strides.", takes="a number greater than 0"
    ),
    "model.num_scales": Field("Sizes of anchors per level, within an octave.", low=1),
    "model.aspect_ratios": Field(
        "Shapes of the anchors.", takes="numbers, width / height, or pairs (width, height)"
    ),
    "model.mean_rgb": Field("Subtracted from the pixels, 0 to 255.", takes="three numbers"),
    "model.std_rgb": Field("Divides the pixels after that.", takes="three numbers above 0"),
    "model.survival_prob": Field(
        "Stochastic depth: how often the backbone's last block is kept; 1: always.",
        takes="a number above 0, up to 1",
    ),
    "model.batch_norm_momentum": Field(
        "Of the running statistics; 0.99 is published, a run of a few hundred steps needs 0.9.",
        takes="a number from 0 to below 1",
    ),
    "model.batch_norm_group": Field(
        "How many neighbouring devices share batch statistics; 0: all, 1: each has its own.", low=0
    ),
    "model.backbone_batch_norm_epsilon": Field(
        "Of the backbone's batch norms; 1e-5 in PyTorch's own ones.",
        takes="a number between 0 and 1",
    ),
    "model.remat": Field(
        "Parts that are computed once more in the backward pass, which saves memory for time.",
        takes=f"some of {', '.join(PARTS)} with commas between; empty: none",
    ),
    "model.dtype": Field(
        "Of the computation; bfloat16 halves memory on accelerators.", ("float32", "bfloat16")
    ),
    "data.source": Field(
        "The dataset.",
        takes="coco2017, coco_json (files of your own), shapes (drawn), or a detection set that "
        "TFDS has prepared, such as voc/2007",
    ),
    "data.data_dir": Field("Folder of the TFDS sets; empty: TFDS's own, ~/tensorflow_datasets."),
    "data.train_images": Field("Of coco_json: the folder of images to train on."),
    "data.train_annotations": Field("Of coco_json: the COCO JSON of these images."),
    "data.eval_images": Field("Of coco_json: the folder of images to evaluate on."),
    "data.eval_annotations": Field("Of coco_json: the COCO JSON of these images."),
    "data.train_split": Field("Of TFDS sets: the split to train on, or a part, train[:90%]."),
    "data.eval_split": Field("Of TFDS sets: the split to evaluate on."),
    "data.bad_boxes": Field(
        "Of coco_json: impossible boxes stop the run, are left out, or are cut to the image.",
        ("error", "skip", "clip"),
    ),
    "data.bad_images": Field(
        "Images that cannot be read stop the run, or are left out.", BAD_IMAGES
    ),
    "data.label_space": Field(
        "contiguous: classes without gaps, in the order of the category ids. category_id: class "
        "id - 1, with unused outputs at the gaps, as the published COCO models have it.",
        ("contiguous", "category_id"),
    ),
    "data.antialias": Field("Smooth images before they are made smaller, as Pillow does."),
    "data.max_boxes": Field(
        "Most boxes of a training image; the largest are kept.", low=1, high=10_000
    ),
    "data.num_threads": Field("That read images; 0: one per CPU.", low=0, high=1024),
    "data.shapes.num_train": Field("Of shapes: drawn images to train on.", takes=_COUNT),
    "data.shapes.num_eval": Field("Of shapes: drawn images to evaluate on.", takes=_COUNT),
    "data.shapes.seed": Field("Of shapes: another one draws other images.", takes="0 or more"),
    "data.shapes.sides": Field(
        "Of shapes: least and largest side in pixels.", takes="two numbers, such as (80, 112)"
    ),
    "data.shapes.max_shapes": Field("Of shapes: most of them in an image.", takes=_COUNT),
    "augment.flip": Field("Mirror half of the images."),
    "augment.jitter": Field(
        "Images are scaled at random by a factor in between.",
        takes="the lowest and the highest scale, such as (0.1, 2.0)",
    ),
    "train.batch_size": Field("Images per step, of all devices together.", low=1, high=2**20),
    "train.accumulate": Field(
        "Into how many parts every device cuts its share of a batch, to save memory.",
        low=1,
        high=2**20,
    ),
    "train.epochs": Field("Passes over the training data.", above=0.0),
    "train.steps": Field("Steps of the run; 0: as epochs says.", low=0, high=2**31 - 1),
    "train.nonfinite": Field(
        "A loss or gradient that is not finite stops the run, or its step is left out.",
        ("error", "skip"),
    ),
    "schedule.base_rate": Field(
        "Peak of the learning rate at batch size 64; it is scaled with the batch.",
        low=1e-12,
        high=1e3,
    ),
    "schedule.warmup_epochs": Field(
        "Length of the linear rise at the start; 0: none.", low=0.0, high=1e6
    ),
    "schedule.warmup_init": Field("Learning rate that it starts at.", low=0.0, high=1e3),
    "schedule.decay": Field("The curve after that.", DECAYS),
    "schedule.offset_cosine": Field(
        "The cosine starts where the warm-up ends; false, as published: at step 0."
    ),
    "optimizer.name": Field("The method.", ("sgd", "adamw")),
    "optimizer.momentum": Field("Of SGD.", low=0.0, high=1.0),
    "optimizer.weight_decay": Field("On kernels only.", low=0.0, high=1.0),
    "optimizer.clip_norm": Field(
        "Largest norm of all gradients together; 0: any.", low=0.0, high=1e9
    ),
    "optimizer.clip_each_norm": Field(
        "Largest norm of each gradient, before that; 0: any.", low=0.0, high=1e9
    ),
    "optimizer.freeze": Field(
        "Which parameters are not trained, by their paths, such as backbone; empty: none.",
        takes=_EXPRESSION,
    ),
    "loss.alpha": Field("Focal loss: weight of objects against background.", low=0.0, high=1.0),
    "loss.gamma": Field("Focal loss: how much easy anchors count less.", low=0.0, high=100.0),
    "loss.label_smoothing": Field("How far class targets are from 0 and 1.", low=0.0, high=1.0),
    "loss.delta": Field("Box loss: where Huber's loss turns from square to linear.", above=0.0),
    "loss.box_weight": Field("Weight of the box loss against the class loss.", above=0.0),
    "loss.iou_threshold": Field(
        "Least overlap (IoU) of an anchor with the object that it is to find.", low=0.0, high=1.0
    ),
    "eval.every_epochs": Field("How often the run evaluates, and once at its end.", above=0.0),
    "eval.batch_size": Field("Images at a time, of all devices together.", low=1, high=2**16),
    "eval.weights": Field("Averaged ones, the last step's, or both.", ("ema", "raw", "both")),
    "eval.pre_nms_top_k": Field("Best boxes of an image that go into NMS.", low=1, high=10**7),
    "eval.max_detections": Field("Most detections in an image.", low=1, high=10_000),
    "eval.nms_method": Field(
        "Of boxes that overlap: leave out (hard) or lower their scores (gaussian, published).",
        ("hard", "gaussian"),
    ),
    "eval.iou_threshold": Field("Of hard NMS: overlap from which on.", low=0.0, high=1.0),
    "eval.sigma": Field("Of gaussian NMS: the higher, the less.", above=0.0),
    "checkpoint.every_epochs": Field("How often the run saves itself.", above=0.0),
    "checkpoint.keep_latest": Field("How many of them stay, beside the best.", low=1, high=10_000),
    "checkpoint.best_metric": Field(
        "Which is the best.", takes="AP, AP50, … of COCO's twelve; raw_AP, … where weights=both"
    ),
    "log.every_steps": Field("Steps between two lines of metrics.jsonl.", low=1, high=10**9),
    "log.progress": Field("Show a progress line."),
}


def field_of(name: str) -> Field:
    """The description of a field, without any meaning for one of a config of one's own."""
    return _RECORDED if name.startswith("scaling.") else FIELDS.get(name, Field(""))
