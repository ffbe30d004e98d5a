"""The machine: processor, cores, memory, child processes."""
