"""Students of several questions, trained jointly: one network, and a range of its outputs for each question."""
