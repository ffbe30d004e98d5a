"""Fixtures of every test of training."""

from support.training_runs import backbone, soft_labels  # noqa: F401
