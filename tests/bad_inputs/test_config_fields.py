"""Fields that cannot be right alone or together: refused in a line before anything is made."""

import re

import pytest
from in_process import assert_refused, run_command

from bifpn_jax.runs import preparing

# Override -> what must be said beside the field's name.
ALONE = {
    "train.batch_size=abc": "give a whole number, such as 64",
    "train.batch_size=8.5": "give a whole number",
    "train.batch_size=True": "give a whole number",
    "train.batch_size=0": "between 1 and 1,048,576",
    "train.batch_size=-8": "between 1 and",
    "train.accumulate=0": "between 1 and",
    "train.epochs=nan": "finite",
    "train.epochs=inf": "finite",
    "train.epochs=-1": "greater than 0",
    "train.steps=-1": "between 0 and",
    "train.steps=99999999999999": "between 0 and",
    "train.batchsize=8": "no such field; did you mean --config.train.batch_size",
    "train=8": "a group of fields",
    "nothing=1": "no such field",
    "model.image_hw=(64,)": "height and width, 32 to 8192",
    "model.image_hw=('a','b')": "height and width",
    "model.image_hw=(16,16)": "height and width",
    "model.image_hw[0]=64": r"set the whole, --config\.model\.image_hw=",
    "model.image_hw=16": "such as 512,640, or one number for a square, 32 pixels or more",
    "model.image_hw=big": "height and width",
    "optimizer=adamw": "set one of them, such as --config.optimizer.name",
    "nothing.like=1": "--help_config lists them all",
    "data.source=coc2017": "did you mean coco2017",
    "data.source=coco/2017": "did you mean coco2017",
    "data.source=voc/2007": r"'voc/2007' is not prepared in .* prepare it: .*builder\('voc/2007'",
    "data.source=voc": "TFDS set 'voc' is not prepared in",
    "data.source=voc/2012:4.0.0": r"prepare it: .*tfds.builder\('voc/2012:4.0.0'",
    "data.source=vocc/2007": "is not prepared in .* .did you mean voc",
    "model.min_level=8": "min_level must be 3-5",
    "model.max_level=2": "max_level 5-10",
    "model.fusion=fastest": "did you mean 'fast'",
    "model.feature_network=bifpm": "did you mean 'bifpn'",
    "model.feature_network=6:3,9": "reads 9, which does not exist",
    "model.backbone=b77": "did you mean 'b7'",
    "model.num_classes=-1": "at least 1",
    "model.width=0": "at least 1",
    "model.network_repeats=0": "at least 1",
    "model.anchor_scale=nan": "finite",
    "model.anchor_scale=-1": "must be positive",
    "model.aspect_ratios=((0,1),)": "aspect ratio .* must be a positive",
    "model.aspect_ratios=(('a','b'),)": "aspect ratio .* must be a positive",
    "model.mean_rgb=(1,2)": "three numbers",
    "model.std_rgb=(0.0,1.0,1.0)": "three numbers above 0",
    "model.survival_prob=1.5": "in .0, 1.",
    "model.batch_norm_momentum=nan": "finite",
    "model.remat=head": "did you mean 'heads'",
    "model.dtype=int32": "did you mean 'float32'",
    "model.separable=maybe": "true or false",
    "model.name=d9": "changes none of them; take that model's file",
    "loss.alpha=nan": "finite",
    "loss.delta=inf": "finite",
    "loss.gamma=-1": "between 0 and 100",
    "schedule.base_rate=0": "between 1e-12 and 1000",
    "schedule.warmup_epochs=-1": "between 0 and",
    "schedule.decay=linear": "unknown decay 'linear': did you mean 'cosine'",
    "optimizer.name=adam": "unknown optimizer 'adam': did you mean 'adamw'",
    "optimizer.momentum=1.5": "between 0 and 1",
    "optimizer.clip_norm=nan": "finite",
    "optimizer.freeze=(": "not a regular expression",
    "init_only=(": "not a regular expression",
    "init_only=backbone": "needs weights, --config.init_from",
    "ema_decay=2": "between 0 and 1",
    "seed=-1": "between 0 and",
    "seed=1.5": "give a whole number",
    "augment.jitter=(2.0,1.0)": "the lowest and the highest scale",
    "augment.flip=2": "true or false",
    "data.bad_boxes=ignore": "use error or clip or skip",
    "data.bad_images=ignore": "use error or skip",
    "data.label_space=zero": "use contiguous or category_id",
    "data.max_boxes=0": "between 1 and",
    "data.source=cocojson": "did you mean coco_json",
    "data.source=": "there is no dataset ''",
    "data.source=coco_json": r"needs --config\.data\.train_images=DIR",
    "eval.batch_size=0": "between 1 and",
    "eval.every_epochs=inf": "finite",
    "eval.every_epochs=0": "greater than 0",
    "eval.weights=emma": "use ema or raw or both",
    "checkpoint.keep_latest=0": "between 1 and",
    "checkpoint.best_metric=mAP": "use AP or AP50",
    "log.every_steps=0": "between 1 and",
}

# Several overrides, on a few drawn images -> what must be said.
TOGETHER = {
    "train.batch_size=12": "batch size 12 cannot be split over 8 devices",
    "train.batch_size=16 train.accumulate=3": "cannot be cut into 3 parts",
    "model.num_classes=7": "num_classes=7 but the data has 4 classes",
    "model.num_classes=2 data.label_space=category_id": "do not fit a layout of 2 classes",
    "data.train_split=nowhere": "no split 'nowhere'",
    "data.shapes.num_train=0": "cannot draw 0 [+] 11 images",
    "data.shapes.seed=-1": "no negative seed",
    "data.shapes={'sides':3}": "two for sides",
    "data.shapes={'sidse':(48,72)}": "no option 'sidse'",
    "data.data_dir=/dev/null": "/dev/null: cannot write the drawn images here",
    "data.data_dir=/proc/nowhere": "/proc/nowhere: cannot write the drawn images here",
    "train.steps=4 schedule.warmup_epochs=9.0": "warm-up of 22 steps does not fit .* 4 steps",
    "train.steps=4 schedule.warmup_epochs=0.8": "warm-up of 2 steps .* 4 steps with the published "
    "cosine, at most 1 do: set --config.schedule.warmup_epochs=0.4 or less",
    "train.steps=1": "warmup_epochs=1: .* set --config.schedule.warmup_epochs=0.0 or less",
    "optimizer.freeze=nowhere": "matches no parameter",
    "optimizer.freeze=.*": "matches every parameter",
}


@pytest.fixture
def main(tmp_path, monkeypatch):
    """Runs experiments.main; it must not come to the state of a run."""
    monkeypatch.setattr(preparing, "lock_workdir", lambda _: pytest.fail("it would train"))

    def run(*words):
        fixed = "--config=configs/d0.py", "--process_count=1", f"--workdir={tmp_path / 'run'}"
        return run_command("train", *fixed, *words)

    return run


@pytest.mark.parametrize("override", ALONE)
def test_a_field_that_cannot_be_right(override, main, tmp_path):
    ended = main(f"--config.{override}")
    field, _, value = override.partition("=")
    word = field.partition("[")[0].split(".")[-1].split("_")[0]
    assert_refused(ended, ALONE[override], f"{word}|{re.escape(value)}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("overrides", TOGETHER)
def test_fields_that_do_not_fit_together(overrides, main, drawn, tmp_path):
    ended = main(*drawn, *(f"--config.{override}" for override in overrides.split(" ")))
    assert_refused(ended, TOGETHER[overrides])
    assert not (tmp_path / "run").exists()
