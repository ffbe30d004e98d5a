"""Sockets, connections, processes: what lies below the application."""
