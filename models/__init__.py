"""Teachers and student backbones: a catalog of known models, and finding, fetching, verifying and re-packing their files."""
