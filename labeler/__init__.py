"""Ask the teacher several times per text, and turn its paths into soft labels."""
