"""Changes to a task, and which prompts they change."""
