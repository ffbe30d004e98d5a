"""The classifier: a bundle held open, texts in, labels with probabilities out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from contract.bundle import MODEL_FILE, TOKENIZER_FILE, Manifest, read_golden, read_manifest, verify_files
from contract.errors import FormatError, UserError
from serve.golden import replay
from serve.session import OUTPUT, open_session
from serve.tokenize import Feeds, Tokenize

SET_SLACK = 1e-8  # of a probability: a text whose score is the quantile itself belongs in, whatever the last bits


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is said about one text."""

    label: str  # the most probable one
    probs: dict[str, float]  # by label, in output order; sums to 1
    abstain: bool  # True: the label's probability is below its threshold, so better ask a person
    label_set: list[str] | None = None  # in output order, where it was asked for; may be empty: the text is like no other


class Classifier:
    """A bundle held open. Every text runs alone and without padding, so its answer never depends on its neighbours.

    One classifier may be used from many threads at once.
    """

    def __init__(self, manifest: Manifest, tokenize: Tokenize, session: ort.InferenceSession) -> None:
        """Put the parts together; :meth:`open` reads them from a bundle."""
        self.manifest = manifest
        self.tokenize = tokenize
        self.session = session
        thresholds = manifest.thresholds or {}
        never = math.inf
        self._thresholds = [never if (least := thresholds.get(name, 0.0)) is None else least for name in manifest.labels]
        self._bias = None if manifest.bias is None else np.array(manifest.bias)

    @classmethod
    def open(cls, bundle: Path, *, threads: int = 1, check: bool = True) -> Classifier:
        """Open a bundle; every file's hash is checked before any parser sees it.

        Args:
            bundle: the folder.
            threads: cores that one text may use, at least 1.
            check: whether to replay the golden texts.
        Raises:
            FormatError: if a file is missing, changed or malformed, or the parts do not fit each other.
            UserError: if the golden texts get other probabilities on this machine.
        """
        verify_files(bundle)
        manifest = read_manifest(bundle)
        golden = read_golden(bundle)
        session = open_session(bundle / MODEL_FILE, threads)
        n_classes = session.get_outputs()[0].shape[-1]
        if isinstance(n_classes, int) and n_classes != len(manifest.labels):
            raise FormatError(
                bundle / MODEL_FILE, "outputs", f"has {n_classes} classes; the manifest names {len(manifest.labels)} labels"
            )
        inputs = [node.name for node in session.get_inputs()]
        classifier = cls(manifest, Tokenize(bundle / TOKENIZER_FILE, manifest.max_tokens, inputs), session)
        if check:
            replay(bundle, golden, classifier.probs)
        return classifier

    def classify(self, texts: Sequence[str], targets: Sequence[str] | None = None, *, sets: bool = False) -> list[Answer]:
        """An answer for each text, in order.

        Args:
            texts: B texts of any length; what lies beyond the manifest's max_tokens is not read.
            targets: B targets if the task asks about a target, else None.
            sets: whether every answer lists its label set too.
        Raises:
            UserError: if targets are missing, superfluous, of another number, or too long, or the bundle has no label sets.
        """
        if sets:
            self.check_sets()
        return [self._answer(row, sets) for row in self.probs(texts, targets).tolist()]

    def probs(self, texts: Sequence[str], targets: Sequence[str] | None = None) -> NDArray[np.float64]:
        """Calibrated probabilities, float64 [B, C] in label order; rows sum to 1. Raises as :meth:`classify`."""
        return softmax(self.logits(texts, targets), self.manifest.temperature, self._bias)

    def logits(self, texts: Sequence[str], targets: Sequence[str] | None = None) -> NDArray[np.float32]:
        """The model's outputs, float32 [B, C] in label order. Raises as :meth:`classify`."""
        self.check_targets(texts, targets)
        abouts: Sequence[str | None] = targets if targets is not None else [None] * len(texts)
        rows = [self.run(self.tokenize.ids(text, about)) for text, about in zip(texts, abouts, strict=True)]
        return np.concatenate(rows) if rows else np.empty((0, len(self.manifest.labels)), np.float32)

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Logits float32 [B, C] of token ids; the bare session, no tokenizer."""
        logits: NDArray[np.float32] = self.session.run([OUTPUT], feeds)[0]
        return logits

    def check_sets(self) -> None:
        """Refuse to list label sets without a quantile; raises UserError."""
        if self.manifest.conformal is None:
            raise UserError(
                "label sets are asked for, but this bundle has no conformal quantile; make one with: potstill calibrate --coverage"
            )

    def check_targets(self, texts: Sequence[str], targets: Sequence[str] | None) -> None:
        """Refuse a call that does not fit the task; raises UserError, or TypeError for a bare string."""
        if isinstance(texts, str):
            raise TypeError("texts is one string; give a list of strings")
        if self.manifest.target and targets is None:
            raise UserError("targets are missing; this bundle answers about a target, so give one for each text")
        if not self.manifest.target and targets is not None:
            raise UserError("targets are given, but this bundle answers without a target; leave them out")
        if targets is not None and len(targets) != len(texts):
            raise UserError(f"there are {len(targets)} targets for {len(texts)} texts; give one for each")

    def close(self) -> None:
        """Free the session; the classifier answers no more."""
        del self.session

    def __enter__(self) -> Classifier:
        """The classifier itself; it is closed when the block ends."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _answer(self, probs: list[float], sets: bool) -> Answer:
        """One row of probabilities as an answer; a tie goes to the earlier label."""
        best = max(range(len(probs)), key=probs.__getitem__)
        labels = self.manifest.labels
        label_set = None
        if sets and self.manifest.conformal is not None:
            most = self.manifest.conformal.quantile + SET_SLACK
            label_set = [name for name, prob in zip(labels, probs, strict=True) if 1 - prob <= most]
        abstain = probs[best] < self._thresholds[best]
        return Answer(labels[best], dict(zip(labels, probs, strict=True)), abstain, label_set)


def softmax(logits: NDArray[np.float32], temperature: float, bias: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Probabilities float64 [B, C] of logits [B, C] over a temperature above 0, plus a bias [C] if any; rows sum to 1."""
    scaled = logits.astype(np.float64) / temperature
    if bias is not None:
        scaled = scaled + bias
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))  # the shift keeps exp() finite
    probs: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return probs
