"""Metrics, log and traces. None of them contains a text or a key."""
