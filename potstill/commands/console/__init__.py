"""What the console is built of: lazy groups, errors, signals, progress."""
