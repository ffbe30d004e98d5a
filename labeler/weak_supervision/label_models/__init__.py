"""The label models that join votes to one distribution per text."""
