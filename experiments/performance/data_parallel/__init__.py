"""What training on many devices exchanges, and how long a step takes by a stated model."""
