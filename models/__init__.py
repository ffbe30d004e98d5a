"""Teachers and student backbones: which are known, where their files lie, how to fetch, check and re-pack them."""
