"""The training itself: loop, losses, batches, resuming, ensembles, pretraining."""
