"""Compare a bundle with optimum and torch on the same student."""
