"""COCO annotation files: read, checked and explained."""
