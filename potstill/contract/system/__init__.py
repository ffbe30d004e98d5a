"""The machine and the process: CPU, cores, memory, environment of child processes."""
