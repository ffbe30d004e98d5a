"""Package a bundle for other servers and hubs: Hugging Face, Triton, KServe, Docker, a web page; with a bill of materials."""
