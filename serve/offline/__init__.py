"""Work on whole files and whole bundles: predict, verify, adapt, cascade."""
