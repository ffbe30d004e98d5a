"""The sources that vote: rules, functions, files of answers, nearest prototypes, and teachers."""
