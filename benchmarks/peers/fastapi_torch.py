"""FastAPI around a pipeline of transformers and torch: python fastapi_torch.py CHECKPOINT PORT"""

import json
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

folder, port = sys.argv[1:]
max_tokens = json.loads((Path(folder) / "student.json").read_text())["max_tokens"]
classify = pipeline("text-classification", model=folder, top_k=None, device="cpu")
app = FastAPI()


class Question(BaseModel):
    """The body of a request."""

    text: str


@app.post("/classify")
def answer(question: Question) -> list[dict]:
    """All labels with their probabilities, the most probable first."""
    return classify([question.text], truncation=True, max_length=max_tokens)[0]


uvicorn.run(app, port=int(port), log_level="warning")
