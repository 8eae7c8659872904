r"""Fine-tunes published weights on your own images: COCO JSON files and folders of images.

    bifpn train --config=finetune:lite0 --workdir=runs/mine \
        --config.data.train_images=DIR --config.data.train_annotations=FILE \
        --config.data.eval_images=DIR --config.data.eval_annotations=FILE

The word after the colon is the model. It starts from effdet's COCO weights of that model, or from
others with `config.init_from=WEIGHTS`: a detector's file, a workdir, or a name from
`bifpn weights --list`. Anchors, input size, normalisation and padding are those that the weights
were trained with, unless the config sets others; the number of classes and their names come from
the annotations.

With `finetune:lite0,backbone` only the backbone has weights, those of an ImageNet classifier:
timm's, or others. Most of the model then starts from scratch, for which SGD is too slow, so AdamW
is used.

The recipe is for a few hundred steps. To freeze parts of the model, set, for instance,
`config.optimizer.freeze=backbone`; their batch norms are then in evaluation mode.

`finetune:lite0,debug` tries the weights in a few steps: the model keeps its size, and the images
are drawn. With `config.data.source=coco_json` as well, the steps use your own images.
"""

from ml_collections import ConfigDict

from bifpn_jax.errors import UserError
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the recipe for a model.

    Args:
        arg: name of the model, by default lite0, "backbone" if the weights are for the backbone
            only, and switches of `bifpn_jax.recipe.base`, separated by commas: "d0,debug".
    """
    words = base.split_words(arg)
    names = [word for word in words if word in MODELS]
    if len(names) > 1:
        raise UserError(f"{' and '.join(names)} after the colon: give one model.")
    name = names[0] if names else "lite0"
    config = base.get_config(name)
    config.name = f"finetune_{name}"
    config.init_from = f"tf_efficientdet_{name}"
    config.init_settings = True
    config.data.source = "coco_json"
    config.augment.jitter = (0.8, 1.3)
    config.train.update({"batch_size": 8, "epochs": 15.0})
    config.schedule.update(
        {"base_rate": 0.32, "warmup_epochs": 1.0, "warmup_init": 0.0, "offset_cosine": True}
    )
    config.eval.every_epochs = 5.0
    config.checkpoint.every_epochs = 5.0
    config.log.every_steps = 10
    if "backbone" in words:
        backbone = MODELS[name].backbone
        config.init_from = f"tf_efficientnet_{backbone}{'' if 'lite' in backbone else '_aa'}"
        config.optimizer.update({"name": "adamw", "weight_decay": 1e-2})
        config.schedule.base_rate = 0.032
    if "debug" in words:  # needs no download
        config.init_from = ""
    rest = [word for word in words if word not in (name, "backbone")]
    base.apply_switches(config, ",".join(rest), [*MODELS, "backbone"], keep_model=True)
    return config
