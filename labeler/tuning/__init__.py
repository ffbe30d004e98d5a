"""Find the best way to ask a teacher, on texts with gold labels."""
