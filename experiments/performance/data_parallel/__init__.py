"""The communication of training on many devices, and the time of a step by a cost model."""
