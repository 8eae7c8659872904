"""The meaning and allowed values of every config field, for checks, messages and help."""

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

# For the fields in "scaling".
RECORDED = Field("For the record only; never read.")

_EXPRESSION = "a regular expression"
_COUNT = "a whole number, at least 1"

# Groups in their order, with their headings.
GROUPS = {
    "": "The run",
    "model": "The network",
    "scaling": "For the record only: the compound scaling rule, and the model's deviations from it",
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
    "name": Field("Name of the run, and of its folder in runs/ if no workdir is given."),
    "study": Field("The study in configs/ablations that the run belongs to; empty: none."),
    "seed": Field("Seed of initial values, image order and augmentation.", low=0, high=2**32 - 1),
    "init_from": Field(
        "Weights to start from: a file, a workdir or a published name; empty: random values."
    ),
    "init_only": Field(
        "Which variables to take from init_from, matched by their paths; empty: all it has.",
        takes=_EXPRESSION,
    ),
    "init_settings": Field(
        "Replace the model settings that are still as released (anchors, padding, normalisation, "
        "size, …) by those that the weights of init_from were trained with."
    ),
    "ema_decay": Field(
        "Decay per step of the averaged weights; 0: no averaging.", low=0.0, high=1.0
    ),
    **MODEL_FIELDS,
    "data.source": Field(
        "The dataset.",
        takes="coco2017, coco_json (your own files), shapes (drawn), a prepared TFDS detection "
        "dataset, such as voc/2007, or your own code, FILE.py:NAME",
    ),
    "data.data_dir": Field(
        "Folder of the TFDS datasets; empty: TFDS's default, ~/tensorflow_datasets."
    ),
    "data.train_images": Field(
        "For coco_json, or your own code: the folder of images to train on."
    ),
    "data.train_annotations": Field(
        "For coco_json, or your own code: the annotations of the training images."
    ),
    "data.eval_images": Field(
        "For coco_json, or your own code: the folder of images to evaluate on."
    ),
    "data.eval_annotations": Field(
        "For coco_json, or your own code: the annotations of the evaluation images."
    ),
    "data.train_split": Field(
        "For TFDS datasets: the split to train on, or a part of one, such as train[:90%]."
    ),
    "data.eval_split": Field("For TFDS datasets: the split to evaluate on."),
    "data.bad_boxes": Field(
        "For coco_json, or your own code: invalid boxes stop the run, are skipped, or are clipped "
        "to the image.",
        BAD_BOXES,
    ),
    "data.bad_images": Field("Images that cannot be read stop the run or are skipped.", BAD_IMAGES),
    "data.label_space": Field(
        "contiguous: classes without gaps, in the order of the category ids. category_id: class "
        "id - 1, with unused outputs at the gaps, as in the published COCO models.",
        LABEL_SPACES,
    ),
    "data.antialias": Field("Smooth images when downscaling them, as Pillow does."),
    "data.max_boxes": Field(
        "Maximum number of boxes per training image; the largest are kept.", low=1, high=10_000
    ),
    "data.num_threads": Field("Threads that read images; 0: one per CPU.", low=0, high=1024),
    "data.shapes.num_train": Field("For shapes: number of drawn training images.", takes=_COUNT),
    "data.shapes.num_eval": Field("For shapes: number of drawn evaluation images.", takes=_COUNT),
    "data.shapes.seed": Field("For shapes: seed of the drawn images.", takes="0 or more"),
    "data.shapes.sides": Field(
        "For shapes: shortest and longest side of an image in pixels.",
        takes="two numbers, such as (80, 112)",
    ),
    "data.shapes.max_shapes": Field("For shapes: maximum number per image.", takes=_COUNT),
    "augment.flip": Field("Mirror half of the images."),
    "augment.jitter": Field(
        "Scale images by a random factor in this range.",
        takes="the lowest and the highest scale, such as (0.1, 2.0)",
    ),
    "augment.recipe": Field(
        "Augmentations in order; flip and jitter are settings of the first two.",
        takes=f"names in brackets, from {', '.join(AUGMENTATIONS)} and your own code, "
        "FILE.py:NAME, with optional settings, ('flip', 'mine.py:blur(sigma=2)')",
    ),
    "train.batch_size": Field("Images per step, over all devices.", low=1, high=2**20),
    "train.accumulate": Field(
        "Number of parts into which every device splits its share of a batch, to save memory.",
        low=1,
        high=2**20,
    ),
    "train.epochs": Field("Passes over the training data.", above=0.0),
    "train.steps": Field("Steps of the run; 0: given by train.epochs.", low=0, high=2**31 - 1),
    "train.nonfinite": Field(
        "A non-finite loss or gradient stops the run, or its step is skipped.",
        NONFINITE,
    ),
    "schedule.base_rate": Field(
        "Peak learning rate at batch size 64; it is scaled with the batch size.",
        low=1e-12,
        high=1e3,
    ),
    "schedule.warmup_epochs": Field(
        "Epochs of linear learning rate warm-up; 0: none.", low=0.0, high=1e6
    ),
    "schedule.warmup_init": Field("Learning rate at the start of the warm-up.", low=0.0, high=1e3),
    "schedule.decay": part_field("How the learning rate decays after the warm-up.", DECAYS),
    "schedule.offset_cosine": Field(
        "Start the cosine where the warm-up ends; false, as published: at step 0."
    ),
    "optimizer.name": part_field("The optimizer.", OPTIMIZERS),
    "optimizer.momentum": Field("Momentum of SGD, or beta1 of AdamW.", low=0.0, high=1.0),
    "optimizer.weight_decay": Field("Weight decay, on kernels only.", low=0.0, high=1.0),
    "optimizer.clip_norm": Field(
        "Maximum global norm of the gradients; 0: no limit.", low=0.0, high=1e9
    ),
    "optimizer.clip_each_norm": Field(
        "Maximum norm of each gradient, applied before clip_norm; 0: no limit.", low=0.0, high=1e9
    ),
    "optimizer.freeze": Field(
        "Which parameters are frozen, matched by their paths, such as backbone; empty: none.",
        takes=_EXPRESSION,
    ),
    "loss.class_loss": part_field("The class loss.", CLASS_LOSSES),
    "loss.box_loss": part_field("The box loss.", BOX_LOSSES),
    "loss.alpha": Field(
        "Focal loss: weight of positives; negatives get 1 - alpha.", low=0.0, high=1.0
    ),
    "loss.gamma": Field(
        "Focal loss: focusing exponent; the higher, the less easy anchors count.",
        low=0.0,
        high=100.0,
    ),
    "loss.label_smoothing": Field("Label smoothing of the class targets.", low=0.0, high=1.0),
    "loss.delta": Field(
        "Box loss: where the Huber loss changes from quadratic to linear.", above=0.0
    ),
    "loss.box_weight": Field("Weight of the box loss relative to the class loss.", above=0.0),
    "loss.iou_threshold": Field(
        "Minimum overlap (IoU) at which an anchor is matched to an object.", low=0.0, high=1.0
    ),
    "eval.every_epochs": Field(
        "Epochs between evaluations; there is always one at the end.", above=0.0
    ),
    "eval.metrics": Field(
        "Metrics in addition to COCO's.", takes="a list of your own code, ('FILE.py:NAME',)"
    ),
    "eval.batch_size": Field("Images per batch, over all devices.", low=1, high=2**16),
    "eval.weights": Field(
        "Which weights are evaluated: averaged (ema), newest (raw), or both.",
        tuple(EVALUATED),
    ),
    "eval.pre_nms_top_k": Field("Best boxes of an image that enter NMS.", low=1, high=10**7),
    "eval.max_detections": Field("Maximum number of detections per image.", low=1, high=10_000),
    "eval.nms_method": Field(
        "What NMS does to a box that overlaps a better one: remove it (hard) or lower its "
        "score (gaussian, as published).",
        tuple(SCORE_THRESHOLDS),
    ),
    "eval.iou_threshold": Field(
        "For hard NMS: overlap (IoU) from which a box is removed.", low=0.0, high=1.0
    ),
    "eval.sigma": Field("For gaussian NMS: the higher, the less scores are lowered.", above=0.0),
    "checkpoint.every_epochs": Field("Epochs between checkpoints.", above=0.0),
    "checkpoint.keep_latest": Field(
        "Number of latest checkpoints to keep, in addition to the best.", low=1, high=10_000
    ),
    "checkpoint.best_metric": Field(
        "The metric that selects the best checkpoint; higher is better.",
        takes="one of COCO's twelve, AP, AP50, …, or a name that a metric of eval.metrics returns; "
        "with eval.weights=both also raw_AP, …",
    ),
    "log.every_steps": Field("Steps between two lines of metrics.jsonl.", low=1, high=10**9),
    "log.progress": Field("Show a progress line."),
}


def field_of(name: str) -> Field:
    """Return the description of a field; one without a meaning for fields that users added."""
    return RECORDED if name.startswith("scaling.") else FIELDS.get(name, Field(""))
