"""The ways through several stages, as calls: what the console, a program and a notebook have in common."""
