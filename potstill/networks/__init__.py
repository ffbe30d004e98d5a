"""Networks of the student families that `transformers` does not have, shared by training and export."""
