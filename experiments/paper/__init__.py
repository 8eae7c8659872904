"""Tables and figures of the paper, with its numbers beside those of finished runs."""
