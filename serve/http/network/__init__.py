"""Sockets, connections and processes: run the application with uvicorn."""
