"""Commands: train, evaluate, predict, look at data. Run one: ``python -m experiments.NAME``."""
