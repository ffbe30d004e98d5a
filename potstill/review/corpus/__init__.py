"""The texts of a label store with what the teacher said about them."""
