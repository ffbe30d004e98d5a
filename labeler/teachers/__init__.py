"""The teachers: a GGUF model in this process, or a model behind a server."""
