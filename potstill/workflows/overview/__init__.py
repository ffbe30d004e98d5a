"""What there is, for a person: where a project stands, and pages about it."""
