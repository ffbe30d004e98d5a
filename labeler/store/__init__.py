"""The label store, `labels.db`: every path, as soon as it exists."""
