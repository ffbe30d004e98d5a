"""A bundle as others want it: Hugging Face, Triton, KServe, Docker; a bill of materials."""
