"""Datasets, from a folder, from TFDS or drawn, and the batches that training reads from them."""
