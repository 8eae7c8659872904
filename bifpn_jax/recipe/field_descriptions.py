"""What every field of a config means and which values it takes: for checks, messages and help."""

from bifpn_jax.data.augment.applying import AUGMENTATIONS
from bifpn_jax.data.coco.coco_objects import BAD_BOXES
from bifpn_jax.data.label_map import LABEL_SPACES
from bifpn_jax.data.records import BAD_IMAGES
from bifpn_jax.losses import BOX_LOSSES, CLASS_LOSSES
from bifpn_jax.nms import SCORE_THRESHOLDS
from bifpn_jax.recipe.fields import Field, part_field
from bifpn_jax.recipe.model_fields import MODEL_FIELDS
from bifpn_jax.train.optimizer import OPTIMIZERS
from bifpn_jax.train.schedule import DECAYS
from bifpn_jax.train.state import EVALUATED
from bifpn_jax.train.step import NONFINITE

# Of the fields in "scaling".
RECORDED = Field("Not read by anything.")

_EXPRESSION = "a regular expression"
_COUNT = "a whole number, at least 1"

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
    "name": Field("Name of the run, and of its folder in runs/ where no workdir is given."),
    "study": Field("The study in configs/ablations that the run belongs to; empty: none."),
    "seed": Field("Seed of initial values, image order and augmentation.", low=0, high=2**32 - 1),
    "init_from": Field(
        "Weights to start from: a file, a workdir or the name of published ones; empty: fresh ones."
    ),
    "init_only": Field(
        "Which variables to take from init_from, by their paths; empty: all that are there.",
        takes=_EXPRESSION,
    ),
    "init_settings": Field(
        "Settings of the model that are as released (anchors, padding, normalisation, size, …) "
        "become those that the weights of init_from were trained with."
    ),
    "ema_decay": Field(
        "Decay per step of the averaged weights; 0: they are the newest.", low=0.0, high=1.0
    ),
    **MODEL_FIELDS,
    "data.source": Field(
        "The dataset.",
        takes="coco2017, coco_json (files of your own), shapes (drawn), or a detection set that "
        "TFDS has prepared, such as voc/2007; or code of your own, FILE.py:NAME",
    ),
    "data.data_dir": Field("Folder of the TFDS sets; empty: TFDS's own, ~/tensorflow_datasets."),
    "data.train_images": Field("Of coco_json: the folder of images to train on."),
    "data.train_annotations": Field("Of coco_json: the COCO JSON of those images."),
    "data.eval_images": Field("Of coco_json: the folder of images to evaluate on."),
    "data.eval_annotations": Field("Of coco_json: the COCO JSON of those images."),
    "data.train_split": Field("Of TFDS sets: the split to train on, or a part, train[:90%]."),
    "data.eval_split": Field("Of TFDS sets: the split to evaluate on."),
    "data.bad_boxes": Field(
        "Of coco_json: impossible boxes stop the run, are left out, or are cut to the image.",
        BAD_BOXES,
    ),
    "data.bad_images": Field(
        "Images that cannot be read stop the run, or are left out.", BAD_IMAGES
    ),
    "data.label_space": Field(
        "contiguous: classes without gaps, in the order of the category ids. category_id: class "
        "id - 1, with unused outputs at the gaps, as the published COCO models have it.",
        LABEL_SPACES,
    ),
    "data.antialias": Field("Smooth images before they are made smaller, as Pillow does."),
    "data.max_boxes": Field(
        "Most boxes of a training image; the largest are kept.", low=1, high=10_000
    ),
    "data.num_threads": Field("Threads that read images; 0: one per CPU.", low=0, high=1024),
    "data.shapes.num_train": Field("Of shapes: drawn images to train on.", takes=_COUNT),
    "data.shapes.num_eval": Field("Of shapes: drawn images to evaluate on.", takes=_COUNT),
    "data.shapes.seed": Field("Of shapes: another one draws other images.", takes="0 or more"),
    "data.shapes.sides": Field(
        "Of shapes: least and largest side in pixels.", takes="two numbers, such as (80, 112)"
    ),
    "data.shapes.max_shapes": Field("Of shapes: most of them in an image.", takes=_COUNT),
    "augment.flip": Field("Mirror half of the images."),
    "augment.jitter": Field(
        "Images are enlarged or shrunk by a random factor in this range.",
        takes="the lowest and the highest scale, such as (0.1, 2.0)",
    ),
    "augment.recipe": Field(
        "Augmentations in their order; flip and jitter are settings of the first two.",
        takes=f"names in brackets, of {', '.join(AUGMENTATIONS)} and of code of your own, "
        "FILE.py:NAME, each with settings if need be, ('flip', 'mine.py:blur(sigma=2)')",
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
        NONFINITE,
    ),
    "schedule.base_rate": Field(
        "Peak of the learning rate at batch size 64; it is scaled with the batch.",
        low=1e-12,
        high=1e3,
    ),
    "schedule.warmup_epochs": Field(
        "Epochs in which the learning rate rises linearly at first; 0: none.", low=0.0, high=1e6
    ),
    "schedule.warmup_init": Field("Learning rate at the start of the warm-up.", low=0.0, high=1e3),
    "schedule.decay": part_field("How the learning rate falls after the warm-up.", DECAYS),
    "schedule.offset_cosine": Field(
        "The cosine starts where the warm-up ends; false, as published: at step 0."
    ),
    "optimizer.name": part_field("The method of optimization.", OPTIMIZERS),
    "optimizer.momentum": Field("Momentum of SGD.", low=0.0, high=1.0),
    "optimizer.weight_decay": Field("Weight decay, on kernels only.", low=0.0, high=1.0),
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
    "loss.class_loss": part_field("The loss of the classes.", CLASS_LOSSES),
    "loss.box_loss": part_field("The loss of the boxes.", BOX_LOSSES),
    "loss.alpha": Field("Focal loss: weight of objects against background.", low=0.0, high=1.0),
    "loss.gamma": Field("Focal loss: how much easy anchors count less.", low=0.0, high=100.0),
    "loss.label_smoothing": Field("How far class targets are from 0 and 1.", low=0.0, high=1.0),
    "loss.delta": Field("Box loss: where Huber's loss turns from square to linear.", above=0.0),
    "loss.box_weight": Field("Weight of the box loss against the class loss.", above=0.0),
    "loss.iou_threshold": Field(
        "Least overlap (IoU) of an anchor with the object that it is to find.", low=0.0, high=1.0
    ),
    "eval.every_epochs": Field(
        "Epochs between evaluations; there is one at the end in any case.", above=0.0
    ),
    "eval.metrics": Field(
        "Metrics beside COCO's.", takes="places of code of your own, ('FILE.py:NAME',)"
    ),
    "eval.batch_size": Field("Images at a time, of all devices together.", low=1, high=2**16),
    "eval.weights": Field(
        "Which are evaluated: averaged ones, the newest, or both.", tuple(EVALUATED)
    ),
    "eval.pre_nms_top_k": Field("Best boxes of an image that go into NMS.", low=1, high=10**7),
    "eval.max_detections": Field("Most detections in an image.", low=1, high=10_000),
    "eval.nms_method": Field(
        "What NMS does to a box that overlaps a better one: leave it out (hard) or lower its "
        "score (gaussian, as published).",
        tuple(SCORE_THRESHOLDS),
    ),
    "eval.iou_threshold": Field(
        "Of hard NMS: overlap (IoU) from which on a box is left out.", low=0.0, high=1.0
    ),
    "eval.sigma": Field("Of gaussian NMS: the higher, the less scores are lowered.", above=0.0),
    "checkpoint.every_epochs": Field("Epochs between checkpoints.", above=0.0),
    "checkpoint.keep_latest": Field(
        "How many of the newest checkpoints stay, beside the best.", low=1, high=10_000
    ),
    "checkpoint.best_metric": Field(
        "The metric of the best checkpoint; higher is better.",
        takes="one of COCO's twelve, AP, AP50, …, or a name that a metric of eval.metrics returns; "
        "with eval.weights=both also raw_AP, …",
    ),
    "log.every_steps": Field("Steps between two lines of metrics.jsonl.", low=1, high=10**9),
    "log.progress": Field("Show a progress line."),
}


def field_of(name: str) -> Field:
    """The description of a field, without any meaning for one of a config of one's own."""
    return RECORDED if name.startswith("scaling.") else FIELDS.get(name, Field(""))
