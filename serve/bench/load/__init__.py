"""The load generator: a client, open and closed loops, a server process, and the same load in process."""
