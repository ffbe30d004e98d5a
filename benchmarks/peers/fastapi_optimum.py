"""FastAPI around a pipeline of optimum and onnxruntime: python fastapi_optimum.py BUNDLE PORT"""

import json
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from optimum.onnxruntime import ORTModelForSequenceClassification
from pydantic import BaseModel
from transformers import AutoTokenizer, pipeline

folder, port = sys.argv[1:]
max_tokens = json.loads((Path(folder) / "bundle.json").read_text())["max_tokens"]
model = ORTModelForSequenceClassification.from_pretrained(folder, file_name="model.onnx")
classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder), top_k=None)
app = FastAPI()


class Question(BaseModel):
    """The body of a request."""

    text: str


@app.post("/classify")
def answer(question: Question) -> list[dict]:
    """All labels with their probabilities, the most probable first."""
    return classify([question.text], truncation=True, max_length=max_tokens)[0]


uvicorn.run(app, port=int(port), log_level="warning")
