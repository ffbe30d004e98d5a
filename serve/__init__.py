"""Answer with a bundle on a CPU: in process (runtime), for whole files (offline), over HTTP (http), and benchmarks of all three.

runtime needs onnxruntime, tokenizers, numpy and msgspec only. Import order of the rooms: runtime < offline, http < bench.
"""
