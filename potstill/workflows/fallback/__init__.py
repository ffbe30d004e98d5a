"""The teacher behind a server: the process that answers single texts, and the one that keeps it alive."""
