"""Soft labels in, a small student out: split, filter, fine-tune, calibrate, score, save. In and out go files of `contract` only."""
