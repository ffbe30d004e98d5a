"""FastAPI around model2vec, with a static student's vectors and head: python model2vec_static.py CHECKPOINT PORT"""

import json
import sys
from pathlib import Path

import numpy as np
from fastapi_app import serve
from model2vec import StaticModel
from safetensors.numpy import load_file
from tokenizers import Tokenizer

folder, port = Path(sys.argv[1]), int(sys.argv[2])
student = json.loads((folder / "student.json").read_text())
parts = load_file(folder / "model.safetensors")
vectors = parts["bag.vectors.weight"]
weights = np.exp(parts["bag.log_weights.weight"])
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
tokenizer.no_truncation()
start, end = tokenizer.encode("").tokens  # the student counts these two; model2vec adds none, and reads them where they are written
# The student weighs its mean and not its extremes, so each token's weight travels as one more number of its vector.
model = StaticModel(np.hstack([vectors, weights]), tokenizer, normalize=False)


def answer(text: str) -> list[dict]:
    """All labels with their probabilities, the most probable first."""
    tokens = model.encode_as_sequence([f"{start} {text} {end}"], max_length=student["max_tokens"])[0]
    found, weight = tokens[:, :-1], tokens[:, -1]
    pooled = np.concatenate([weight @ found / weight.sum(), found.max(axis=0), found.min(axis=0)])
    hidden = np.maximum(parts["dense.weight"] @ pooled + parts["dense.bias"], 0)
    logits = parts["classifier.weight"] @ hidden + parts["classifier.bias"]
    scores = np.exp((logits - logits.max()) / student["temperature"])
    rows = [{"label": label, "score": float(score)} for label, score in zip(student["labels"], scores / scores.sum(), strict=True)]
    return sorted(rows, key=lambda row: -row["score"])


serve(answer, port)
