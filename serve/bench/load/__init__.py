"""The load generator: clients, open and closed loops, signals under load."""
