"""Whole files and whole bundles: predict, verify, adapt, cascade."""
