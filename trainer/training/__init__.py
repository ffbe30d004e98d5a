"""The training itself: one student end to end, its loop, losses and batches, pretraining, ensembles, resuming."""
