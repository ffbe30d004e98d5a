"""Asks the teacher several times per text and turns its paths into soft labels."""
