"""Build the forms of a model, measure them against float, and decide which one is shipped."""
