"""A training run in its workdir: the loop, resuming, checkpoints, logs and evaluation."""
