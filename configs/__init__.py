"""Configurations: one short file per run, all on the base in `configs.base`."""
