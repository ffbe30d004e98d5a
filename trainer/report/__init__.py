"""The HTML report on a student: scores, plots, slices, mistakes, terms."""
