"""Speed and memory: compared with other projects, by part, on many devices, and over time."""
