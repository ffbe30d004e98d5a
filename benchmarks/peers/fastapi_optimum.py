"""FastAPI around a pipeline of optimum and onnxruntime: python fastapi_optimum.py BUNDLE PORT"""

import json
import sys
from pathlib import Path

from fastapi_app import serve
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer, pipeline

folder, port = sys.argv[1:]
max_tokens = json.loads((Path(folder) / "bundle.json").read_text())["max_tokens"]
model = ORTModelForSequenceClassification.from_pretrained(folder, file_name="model.onnx")
classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder), top_k=None)
serve(lambda text: classify([text], truncation=True, max_length=max_tokens)[0], int(port))
