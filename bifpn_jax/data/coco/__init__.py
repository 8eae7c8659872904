"""Reading and checking COCO annotation files."""
