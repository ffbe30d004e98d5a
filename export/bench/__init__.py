"""Measuring a bundle against optimum and torch on the same student."""
