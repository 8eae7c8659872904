"""COCO average precision, and the files that record it."""
