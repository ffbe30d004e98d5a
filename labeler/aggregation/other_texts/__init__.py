"""What other texts say about a text: its neighbours, a model of all, and where their embeddings are from."""
