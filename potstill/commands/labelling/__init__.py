"""The commands around the teacher: tasks, labels, soft labels."""
