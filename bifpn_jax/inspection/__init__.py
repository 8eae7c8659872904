"""Reports on data, pictures of boxes, and drawings of networks, for people to look at."""
