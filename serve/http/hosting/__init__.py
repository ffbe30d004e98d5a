"""Open bundles, and the queue and threads that do their work."""
