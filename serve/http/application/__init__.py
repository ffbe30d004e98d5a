"""The HTTP application: routes, keys, and one reply for each request."""
