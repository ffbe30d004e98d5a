"""Scores with confidence intervals, and the correction of probabilities for a prior shift."""
