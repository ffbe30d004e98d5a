"""Formats of other tools, both ways: `datasets`, Label Studio, Argilla, flat tables."""
