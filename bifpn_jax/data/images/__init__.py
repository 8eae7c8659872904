"""Reading, checking and decoding image files."""
