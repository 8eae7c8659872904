"""Sources: one file per format that images and boxes come in."""
