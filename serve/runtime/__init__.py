"""Run a bundle in process: from a text to an answer."""
