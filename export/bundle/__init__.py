"""Assemble a bundle: manifest, recalibrated temperature and thresholds, model card, golden answers."""
