"""What a student learns from: which texts, which labels, which tokens."""
