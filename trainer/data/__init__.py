"""Training data: the rows of a run, their split and selection, targets, and text features."""
