"""The exact words that a teacher reads."""
