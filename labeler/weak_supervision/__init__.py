"""Weak supervision: several noisy sources vote on the texts, and a label model makes one soft label of their votes."""
