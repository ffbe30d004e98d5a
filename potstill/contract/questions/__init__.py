"""Tasks of several questions, each of its kind: the task, its soft labels, gold answers, and what the outputs of a student mean."""
