"""Soft labels in, a small student out: split, filter, fine-tune, calibrate, score, save. Other stages exchange files with it."""
