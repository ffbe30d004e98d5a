"""llama.cpp: decode many paths of many texts over one KV cache."""
