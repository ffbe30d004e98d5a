"""The tokenizer's file, and a vocabulary cut to what is used."""
