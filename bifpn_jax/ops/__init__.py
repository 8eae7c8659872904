"""Convolution, pooling, resizing and batch norm as plain functions, lowered for each platform."""
