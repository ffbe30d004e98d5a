"""From float to int8: grids, smoothing, rounding, training against rounding."""
