"""Training: state, optimizer, schedule, step, devices and checkpoints."""
