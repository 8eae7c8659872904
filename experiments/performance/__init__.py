"""Speed and memory: of this project beside others, of its parts, of many devices, over time."""
