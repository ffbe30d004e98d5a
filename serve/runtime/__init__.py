"""A bundle in a program: from a text to an answer."""
