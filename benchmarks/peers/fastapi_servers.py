"""FastAPI around three libraries that classify texts: python fastapi_servers.py LIBRARY MODEL PORT

LIBRARY is `optimum` (a pipeline over onnxruntime; MODEL is a bundle), `torch` (a transformers pipeline; MODEL is a checkpoint) or
`model2vec` (vectors and head of a static student; MODEL is a checkpoint). Each library is imported only where it is asked for,
because `model2vec` has an environment of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

Classify = Callable[[str], list[dict]]  # all labels with their probabilities, most probable first


class TextBody(BaseModel):
    """The body of a request."""

    text: str


def serve(classify: Classify, port: int) -> None:
    """Answer `POST /classify` until the process ends."""
    app = FastAPI()

    @app.post("/classify")
    def answer(body: TextBody) -> list[dict]:
        """Classify one text."""
        return classify(body.text)

    uvicorn.run(app, port=port, log_level="warning")


def optimum_pipeline(bundle: Path) -> Classify:
    """A pipeline of optimum and onnxruntime."""
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer, pipeline

    max_tokens = json.loads((bundle / "bundle.json").read_text())["max_tokens"]
    model = ORTModelForSequenceClassification.from_pretrained(bundle, file_name="model.onnx")
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(bundle), top_k=None)
    return lambda text: classify([text], truncation=True, max_length=max_tokens)[0]


def torch_pipeline(checkpoint: Path) -> Classify:
    """A pipeline of transformers and torch."""
    from transformers import pipeline

    max_tokens = json.loads((checkpoint / "student.json").read_text())["max_tokens"]
    classify = pipeline("text-classification", model=str(checkpoint), top_k=None, device="cpu")
    return lambda text: classify([text], truncation=True, max_length=max_tokens)[0]


def model2vec_model(checkpoint: Path) -> Classify:
    """model2vec with the vectors and the head of a static student."""
    import numpy as np
    from model2vec import StaticModel
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    student = json.loads((checkpoint / "student.json").read_text())
    parts = load_file(checkpoint / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_truncation()
    start, end = tokenizer.encode("").tokens  # the student counts these two; model2vec adds none, but reads them in the text
    # The student weights its mean but not its extremes, so each token's weight is appended to its vector.
    table = np.hstack([parts["bag.vectors.weight"], np.exp(parts["bag.log_weights.weight"])])
    model = StaticModel(table, tokenizer, normalize=False)

    def classify(text: str) -> list[dict]:
        """Pool the vectors as the student does, and apply its head."""
        tokens = model.encode_as_sequence([f"{start} {text} {end}"], max_length=student["max_tokens"])[0]
        vectors, weight = tokens[:, :-1], tokens[:, -1]
        pooled = np.concatenate([weight @ vectors / weight.sum(), vectors.max(axis=0), vectors.min(axis=0)])
        hidden = np.maximum(parts["dense.weight"] @ pooled + parts["dense.bias"], 0)
        logits = parts["classifier.weight"] @ hidden + parts["classifier.bias"]
        weights = np.exp((logits - logits.max()) / student["temperature"])
        probs = (weights / weights.sum()).tolist()
        rows = [{"label": label, "score": score} for label, score in zip(student["labels"], probs, strict=True)]
        return sorted(rows, key=lambda row: -row["score"])

    return classify


LIBRARIES = {"optimum": optimum_pipeline, "torch": torch_pipeline, "model2vec": model2vec_model}

if __name__ == "__main__":
    library, model, port = sys.argv[1:]
    serve(LIBRARIES[library](Path(model)), int(port))
