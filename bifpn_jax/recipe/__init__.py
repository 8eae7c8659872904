"""The fields of a config: their meaning, their checks, and the objects built from them."""
