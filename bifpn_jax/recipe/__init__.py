"""The fields of a config: what they mean, how they are checked, and the objects made from them."""
