"""onnxruntime and tokenizers without a server: what peers without a pipeline of their own answer with, and the upper limit.

    python plain_session.py BUNDLE TEXTS SECONDS

Run as a program, threads classify the texts in a loop. Prints JSON: `rps` of one thread per core, `p50_ms` of one thread.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer


class PlainSession:
    """A bundle's tokenizer and graph, used in the plainest way, one text at a time."""

    def __init__(self, folder: str, threads: int = 1) -> None:
        """Open a bundle. Args: threads, that the graph uses for one text."""
        manifest = json.loads((Path(folder) / "bundle.json").read_text())
        self.labels, self.temperature = manifest["labels"], manifest["temperature"]
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.enable_truncation(manifest["max_tokens"])
        self.tokenizer.no_padding()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(str(Path(folder) / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.inputs = [one.name for one in self.session.get_inputs()]

    def probs(self, text: str) -> dict[str, float]:
        """Probabilities by label."""
        ids = self.tokenizer.encode(text)
        arrays = {"input_ids": ids.ids, "attention_mask": ids.attention_mask, "token_type_ids": ids.type_ids}
        logits = self.session.run(["logits"], {name: np.array([arrays[name]], dtype=np.int64) for name in self.inputs})[0]
        weights = np.exp((logits[0] - logits[0].max()) / self.temperature)
        return dict(zip(self.labels, (weights / weights.sum()).tolist(), strict=True))


def latency_ms(session: PlainSession, texts: list[str], seconds: float) -> float:
    """Median milliseconds of a text in one thread; raises ValueError without texts."""
    took_ms, end = [], time.perf_counter() + seconds
    for text in itertools.cycle(texts):
        start = time.perf_counter()
        session.probs(text)
        took_ms.append((time.perf_counter() - start) * 1e3)
        if time.perf_counter() > end:
            return statistics.median(took_ms)
    raise ValueError("there are no texts")


def throughput(session: PlainSession, texts: list[str], seconds: float) -> float:
    """Texts per second with one thread per core."""
    counts, end = [0] * len(os.sched_getaffinity(0)), time.perf_counter() + seconds

    def work(index: int) -> None:
        """Classify until the time is up."""
        for text in itertools.cycle(texts):
            if time.perf_counter() > end:
                return
            session.probs(text)
            counts[index] += 1

    start = time.perf_counter()
    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


if __name__ == "__main__":
    folder, file, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    session, texts = PlainSession(folder), json.loads(file.read_text())
    latency_ms(session, texts, seconds / 10)  # warm-up
    print(json.dumps({"p50_ms": latency_ms(session, texts, seconds), "rps": throughput(session, texts, seconds)}))
