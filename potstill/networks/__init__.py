"""Torch modules of the students that `transformers` does not know: what a checkpoint's weights mean to training and export."""
