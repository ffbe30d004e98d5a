"""Check whether a pool of texts is like the texts that a student will answer."""
