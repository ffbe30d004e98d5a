"""Measuring the labelling engine next to its peers."""
