"""Scores with intervals, and what another share of labels does to probabilities."""
