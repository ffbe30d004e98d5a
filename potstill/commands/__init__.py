"""The console: one file per command, each of which parses, makes one library call and prints. The only place that imports click."""
