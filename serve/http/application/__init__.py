"""The HTTP application: routes, API keys, and a reply to each request."""
