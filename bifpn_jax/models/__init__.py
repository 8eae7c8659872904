"""The networks: EfficientNet backbones, feature networks as graphs, heads, and the detector."""
