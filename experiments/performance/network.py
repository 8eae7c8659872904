"""The forward pass and the training step."""

from bifpn_jax.models.initial_values import init_variables
from experiments.paper import counts
from experiments.performance import effdet_peer, programs
from experiments.performance.contest import OURS, Contest, compete
from experiments.performance.options import Options


def forward(options: Options) -> list[Contest]:
    """Time the forward pass, from images to logits and box codes."""
    contests = []
    for name, batch_size in options.forward:
        model = counts.model_of(counts.released_config(name, options.dtype), counts.COCO_OUTPUTS)
        contestants = {OURS: programs.forward(model, init_variables(model, 0), batch_size)}
        if options.peers:
            contestants |= effdet_peer.forward_forms(
                name, model.image_hw, batch_size, dtype=options.dtype
            )
        work = f"forward, batch {batch_size}, {options.dtype}"
        contests.append(compete(work, contestants, rounds=options.rounds, model=name))
    return contests


def train(options: Options) -> list[Contest]:
    """Time the training step, from uint8 images and boxes to new weights."""
    contests = []
    for name, batch_size in options.train:
        config = counts.released_config(name, options.dtype)
        model = counts.model_of(config, counts.COCO_OUTPUTS)
        contestants = {OURS: programs.training_step(config, model, batch_size)}
        if options.peers:
            boxes, labels = programs.random_boxes(batch_size, model.image_hw)
            contestants |= effdet_peer.train_forms(
                name, model.image_hw, boxes, labels, dtype=options.dtype
            )
        work = f"training step, batch {batch_size}, {options.dtype}"
        contests.append(compete(work, contestants, rounds=options.rounds, model=name))
    return contests
