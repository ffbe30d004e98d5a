"""The protocols of the server, and their OpenAPI description."""
