"""What people decided: which of it stands, what it amounts to, and how far they agree."""
