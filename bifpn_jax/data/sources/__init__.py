"""Sources: one file per data format."""
