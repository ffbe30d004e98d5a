"""From logits to probabilities to decisions: temperature, vector scaling, thresholds, label sets."""
