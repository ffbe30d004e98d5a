"""Benchmark the labelling engine against its peers."""
