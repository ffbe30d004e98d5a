"""The commands around the student: training, scores, thresholds, the report."""
