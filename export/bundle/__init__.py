"""Putting a bundle together: files, manifest, thresholds of the shipped form, model card."""
