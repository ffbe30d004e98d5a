"""The page about a student: scores, plots, slices, mistakes, terms."""
