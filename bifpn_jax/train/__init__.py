"""Training: state, optimizer, step, devices, checkpoints and logs."""
