"""The HTTP server: from bytes of a request to bytes of a reply."""
