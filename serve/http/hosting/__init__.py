"""Which bundles are open, and how their work is queued and shared among threads."""
