"""A labelling run: which paths are missing, when a text has enough of them, how far the run is, what it will cost."""
