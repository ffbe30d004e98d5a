"""What a file from a stranger may hold, and who signed it."""
