"""One graph with its tokenizer and its temperature: a text in, a probability for each label out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime as ort

from potstill.contract.bundle import Cascade, Manifest
from potstill.contract.errors import FormatError
from potstill.serve.runtime.session import OUTPUT, open_session
from potstill.serve.runtime.tokenizer import Feeds, Tokenize

_OUTPUTS = [OUTPUT]


@dataclass(slots=True)
class Trace:
    """How one text's answer came about. A cascade may have two graphs read it: their tokens and times are added up."""

    n_tokens: int = 0  # special tokens and the target's count
    tokenize_s: float = 0.0
    logits: list[float] = field(default_factory=list)  # in label order, of the graph that gave the answer


class Scorer:
    """A graph that is held open. Every text runs alone and without padding; many threads may share one scorer."""

    def __init__(
        self, tokenize: Tokenize, session: ort.InferenceSession, temperature: float, bias: list[float] | None = None
    ) -> None:
        """Args: temperature, above 0, that logits are divided by; bias in label order, added after that."""
        self.tokenize, self.session = tokenize, session
        self._temperature, self._bias = temperature, bias

    def probs(self, text: str | bytes, target: str | bytes | None = None, trace: Trace | None = None) -> list[float]:
        """Probabilities in label order; they sum to 1. A trace is added to. Raises UserError if the target is too long."""
        if trace is None:
            return softmax_row(self.logits(self.tokenize.ids(text, target)), self._temperature, self._bias)
        start = time.perf_counter()
        feeds = self.tokenize.ids(text, target)
        trace.tokenize_s += time.perf_counter() - start
        trace.n_tokens += feeds["input_ids"].shape[1]
        trace.logits = self.logits(feeds)
        return softmax_row(trace.logits, self._temperature, self._bias)

    def logits(self, feeds: Feeds) -> list[float]:
        """The graph's outputs for the ids of one text, in label order."""
        logits: list[float] = self.session.run(_OUTPUTS, feeds)[0][0].tolist()
        return logits


def open_scorer(model: Path, tokenizer: Path, reading: Manifest | Cascade, n_labels: int, threads: int = 1) -> Scorer:
    """A scorer from a bundle's files, whose hashes have been checked.

    Args:
        model, tokenizer: the files.
        reading: the part of the manifest that says how this graph is read: max_tokens, temperature, bias.
        n_labels: classes that the graph must have.
        threads: cores that one text may use, at least 1.
    Raises:
        FormatError: if a file is malformed, or the parts do not fit each other.
    """
    session = open_session(model, threads)
    n_classes = session.get_outputs()[0].shape[-1]
    if isinstance(n_classes, int) and n_classes != n_labels:
        raise FormatError(model, "outputs", f"has {n_classes} classes; the manifest names {n_labels} labels")
    inputs = [node.name for node in session.get_inputs()]
    return Scorer(Tokenize(tokenizer, reading.max_tokens, inputs), session, reading.temperature, reading.bias)


def softmax_row(logits: list[float], temperature: float, bias: list[float] | None = None) -> list[float]:
    """Probabilities of one text's logits over a temperature above 0, plus a bias if any; they sum to 1.

    For the few labels of a task plain floats are quicker than arrays: 1 microsecond for three, where arrays take 10.
    """
    scaled = [logit / temperature for logit in logits]
    if bias is not None:
        scaled = [value + more for value, more in zip(scaled, bias, strict=True)]
    top = max(scaled)  # the shift keeps exp() finite
    weights = [math.exp(value - top) for value in scaled]
    total = sum(weights)
    return [weight / total for weight in weights]
