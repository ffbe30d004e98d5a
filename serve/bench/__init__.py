"""Benchmarks of a bundle and of a server."""
