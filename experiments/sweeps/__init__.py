"""The parts of `experiments.sweep`: what to run, the folder of the results, and running it."""
