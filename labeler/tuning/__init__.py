"""Finding the best way to ask, on texts with gold labels."""
