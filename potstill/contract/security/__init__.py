"""Checks on files from strangers: the form of a graph, and signatures."""
