"""Image files: read, checked and decoded."""
