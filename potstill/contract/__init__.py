"""What the stages agree on: tasks, texts, soft labels, checkpoints, bundles, scores and errors. It imports nothing of ours."""
