"""Properties that hold for every input, on generated cases: a package, as its names occur twice."""
