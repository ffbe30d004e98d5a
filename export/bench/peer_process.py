"""A transformers text-classification pipeline in a process of its own, which answers line by line.

    python -m potstill.export.bench.peer_process NAME FOLDER MAX_TOKENS THREADS

NAME is `optimum` (onnxruntime behind optimum's class) or `torch`.
Each line on stdin is a `PipelineRequest`, each on stdout a `PipelineReply`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from potstill.contract.system.memory import resident_bytes
from potstill.export.graph import quiet
from potstill.networks.register import register
from potstill.serve.bench.bundle_report import milliseconds
from potstill.serve.runtime.session import session_options

BATCH = 8  # texts in a batch when the effect of batches is measured

PipelineCall = Callable[..., Any]  # a transformers pipeline


class PipelineRequest(msgspec.Struct, frozen=True):
    """Texts to time one after the other, or to answer alone and in batches."""

    texts: list[tuple[str, str | None]]  # text and target, or null
    batch: bool  # answer alone and in batches, rather than time


class PipelineReply(msgspec.Struct, frozen=True):
    """Times of the texts, or their probabilities."""

    times_ms: list[float]
    first_answer_s: float  # on the monotonic clock, which all processes of a machine share
    rss_bytes: int
    batch_change_max: float  # largest change of a probability between alone and in a batch
    probs: list[list[float]]  # each text alone, in output order; empty where texts were timed


def main(name: str, folder: Path, max_tokens: int, threads: int) -> None:
    """Answer the lines of stdin until it ends. Args: name, `optimum` or `torch`; folder, that the pipeline loads."""
    torch.set_num_threads(threads)
    register()
    with quiet():
        answer = _pipeline(name, folder, max_tokens, threads)
    first_answer_s = 0.0
    for line in sys.stdin.buffer:
        asked = msgspec.json.decode(line, type=PipelineRequest)
        texts = [text if target is None else {"text": text, "text_pair": target} for text, target in asked.texts]
        times_ms, change = [], 0.0
        alone = np.array([_row(answer, answer(text)) for text in texts]) if asked.batch else np.empty((0, 0))
        if asked.batch:
            together = np.array([_row(answer, rows) for rows in answer(texts, batch_size=BATCH)])
            change = float(np.abs(alone - together).max())
        else:
            for text in texts:
                times_ms.append(milliseconds(lambda text=text: answer(text)))  # type: ignore[misc]
                first_answer_s = first_answer_s or time.monotonic()
        told = PipelineReply(times_ms, first_answer_s, resident_bytes(), change, alone.tolist())
        sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
        sys.stdout.buffer.flush()


def _pipeline(name: str, folder: Path, max_tokens: int, threads: int) -> PipelineCall:
    """Open the pipeline; it gives the probabilities of all labels and truncates as the bundle does."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if name == "optimum":
        from optimum.onnxruntime import ORTModelForSequenceClassification  # here, because importing it takes seconds

        model = ORTModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, provider="CPUExecutionProvider", session_options=session_options(threads)
        )
    else:
        model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    answering: PipelineCall = pipeline(
        "text-classification", model=model, tokenizer=tokenizer, top_k=None, truncation=True, max_length=max_tokens, device="cpu"
    )
    return answering


def _row(answer: Any, scores: Any) -> NDArray[np.float64]:
    """Sort a pipeline's scores, most probable first, into a text's probabilities [C] in output order."""
    rows = scores[0] if scores and isinstance(scores[0], list) else scores
    index = answer.model.config.label2id
    return np.array([row["score"] for row in sorted(rows, key=lambda row: int(index[row["label"]]))])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
