"""Tables and figures of the paper, with its numbers next to those of finished runs."""
