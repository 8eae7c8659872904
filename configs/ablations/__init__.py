"""Studies of the paper: each file has a config and a `sweep()` of its rows."""
