"""From paths to soft labels: calibration, weights of prompt variants, smoothing, what each method makes of them."""
