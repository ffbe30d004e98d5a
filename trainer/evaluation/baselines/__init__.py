"""Systems that a student is compared with."""
