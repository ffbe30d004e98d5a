"""Quantize a float graph to int8: smoothing, rounding, and quantization-aware training."""
