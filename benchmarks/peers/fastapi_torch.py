"""FastAPI around a pipeline of transformers and torch: python fastapi_torch.py CHECKPOINT PORT"""

import json
import sys
from pathlib import Path

from fastapi_app import serve
from transformers import pipeline

folder, port = sys.argv[1:]
max_tokens = json.loads((Path(folder) / "student.json").read_text())["max_tokens"]
classify = pipeline("text-classification", model=folder, top_k=None, device="cpu")
serve(lambda text: classify([text], truncation=True, max_length=max_tokens)[0], int(port))
