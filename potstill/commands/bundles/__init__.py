"""The commands that make bundles, check them, and answer with them."""
