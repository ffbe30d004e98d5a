"""Scores of a student on gold labels, and comparison with baselines."""
