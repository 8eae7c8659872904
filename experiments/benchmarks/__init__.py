"""The parts of `experiments.benchmark`: each measures one kind of work, ours beside others'."""
