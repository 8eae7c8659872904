"""The file formats that weights come in."""
