"""Student models: their families, tokenizers and initial weights, and the checkpoint folder."""
