"""How other code bases, and this one, name the variables of a model."""
