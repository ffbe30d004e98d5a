"""Turn a local LLM into an annotator, and its judgement into a classifier small enough for a CPU."""
