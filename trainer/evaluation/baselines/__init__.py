"""What a student is compared with."""
