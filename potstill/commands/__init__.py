"""The console: every command parses its options, makes one library call and prints. The only place that imports click."""
