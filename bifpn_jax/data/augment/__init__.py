"""Augmentations of an image with its boxes."""
