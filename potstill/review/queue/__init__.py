"""In which order a person is shown the texts."""
