"""The kinds of students, how they start, how they are saved."""
