"""llama.cpp: many paths of many texts decoded over one KV cache."""
