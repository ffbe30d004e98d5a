"""Who answers: a GGUF in this process, or a model behind a server."""
