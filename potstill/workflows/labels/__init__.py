"""What is made of label stores without a new token: soft labels, combinations with other sources, and files for people."""
