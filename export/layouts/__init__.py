"""Package a bundle for other servers and hubs: Hugging Face, Triton, KServe, Docker; with a bill of materials."""
