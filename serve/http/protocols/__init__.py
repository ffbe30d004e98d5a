"""The protocols that the server speaks, and their description."""
