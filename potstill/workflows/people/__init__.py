"""People in the loop: the pages on which they label, the gold that comes of it, and asking a teacher again."""
