"""The pages over HTTP, for those who hold a token."""
