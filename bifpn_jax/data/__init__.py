"""Data: annotated images from a folder, from TFDS or drawn, and the batches that training reads."""
