"""Package a bundle for other servers and hubs: Hugging Face, Triton, Kubernetes, Docker, pages; with a bill of materials."""
