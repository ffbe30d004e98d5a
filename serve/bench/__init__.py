"""Measuring a bundle and a server."""
