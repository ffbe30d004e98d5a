"""Which form of the graph is shipped: every form is held against the float student, and timed."""
