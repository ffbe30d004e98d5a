"""The bundle's tokenizer files, and vocabulary pruning."""
