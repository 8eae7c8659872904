"""Commands: train, evaluate, predict, look at data. Run one: ``python -m experiments.NAME``."""

from experiments.process_memory import restart_with_huge_pages

# Here, because this is the first that a command runs, and a new start costs least before imports.
restart_with_huge_pages()
