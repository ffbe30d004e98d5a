"""Answering with a bundle on a CPU: onnxruntime, tokenizers, numpy and msgspec; the HTTP stack only in `app` and `run`."""
