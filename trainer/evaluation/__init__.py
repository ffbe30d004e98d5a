"""How good a student is, on gold labels and beside others."""
