"""From paths to soft labels: calibration, weights of prompt variants, smoothing, and a comparison of the methods."""
