"""The classifier: a bundle held open, texts in, labels with probabilities out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from potstill.contract.bundle import (
    FAST_MODEL_FILE,
    FAST_TOKENIZER_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    Golden,
    Manifest,
    read_golden,
    read_manifest,
    verify_files,
)
from potstill.contract.errors import UserError
from potstill.serve.runtime.golden import replay
from potstill.serve.runtime.scorer import Scorer, Trace, open_scorer
from potstill.serve.runtime.session import OUTPUT
from potstill.serve.runtime.tokenizer import Feeds, Tokenize

NO_THRESHOLD, REACHED, MISSED, NEVER = "no threshold", "reached", "missed", "never answered"
SET_SLACK = 1e-8  # of a probability: a text whose score is the quantile itself belongs in, whatever the last bits


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is said about one text."""

    label: str  # the most probable one
    probs: dict[str, float]  # by label, in output order; sums to 1. Of the label alone where that was asked for
    abstain: bool  # True: the label's probability is below its threshold, so better ask a person
    label_set: list[str] | None = None  # in output order, where it was asked for; may be empty: the text is like no other
    verdict: str = NO_THRESHOLD  # how the label's probability compares with its threshold: NO_THRESHOLD, REACHED, MISSED or NEVER
    threshold: float | None = 0.0  # the least probability at which the label counts; None: it never does


class Classifier:
    """A bundle held open. Every text runs alone and without padding, so its answer never depends on its neighbours.

    In a cascade the fast graph reads every text, and the other one those that the fast one is not sure of.
    One classifier may be used from many threads at once.

        >>> with potstill.Classifier.open("bundle") as classifier:
        ...     (answer,) = classifier.classify(["bought more this morning"])
        >>> answer.label in classifier.manifest.labels
        True
    """

    def __init__(self, manifest: Manifest, tokenize: Tokenize, session: ort.InferenceSession, fast: Scorer | None = None) -> None:
        """Put the parts together; :meth:`open` reads them from a bundle. `fast` is a cascade's other graph."""
        self.manifest = manifest
        self.tokenize = tokenize
        self.session = session
        self.fast = fast if manifest.cascade is not None else None
        self.scorer = Scorer(tokenize, session, manifest.temperature, manifest.bias)
        self._labels = manifest.labels
        self._thresholds = _in_order(manifest.thresholds, self._labels)
        self._sure = manifest.cascade.sure if manifest.cascade is not None else math.inf
        self._fast_thresholds = _in_order(manifest.cascade.thresholds if manifest.cascade is not None else None, self._labels)

    @classmethod
    def open(cls, bundle: str | Path, *, threads: int = 1, check: bool = True) -> Classifier:
        """Open a bundle; every file's hash is checked before any parser sees it.

        Args:
            bundle: the folder.
            threads: cores that one text may use, at least 1.
            check: whether to replay the golden texts.
        Raises:
            FormatError: if a file is missing, changed or malformed, or the parts do not fit each other.
            UserError: if the golden texts get other probabilities on this machine.
        """
        bundle = Path(bundle)
        verify_files(bundle)
        manifest = read_manifest(bundle)
        golden = read_golden(bundle)
        n_labels, fast = len(manifest.labels), None
        scorer = open_scorer(bundle / MODEL_FILE, bundle / TOKENIZER_FILE, manifest, n_labels, threads)
        if manifest.cascade is not None:
            fast = open_scorer(bundle / FAST_MODEL_FILE, bundle / FAST_TOKENIZER_FILE, manifest.cascade, n_labels, threads)
        classifier = cls(manifest, scorer.tokenize, scorer.session, fast)
        if check:
            classifier.replay(bundle, golden)
        return classifier

    def replay(self, bundle: Path, golden: list[Golden]) -> float:
        """The largest change of a golden probability, of either graph. Raises as :func:`potstill.serve.runtime.golden.replay`."""
        change = replay(bundle, golden, partial(_probs, self.scorer), self.manifest.machine)
        if self.fast is None:
            return change
        rows = [msgspec.structs.replace(row, probs=row.fast_probs or []) for row in golden]
        return max(change, replay(bundle, rows, partial(_probs, self.fast), self.manifest.machine))

    def classify(
        self,
        texts: Sequence[str | bytes],
        targets: Sequence[str | bytes] | None = None,
        *,
        sets: bool = False,
        all_scores: bool = True,
    ) -> list[Answer]:
        """An answer for each text, in order.

        Args:
            texts: B texts of any length, as characters or as UTF-8; what lies beyond the manifest's max_tokens is not read.
            targets: B targets if the task asks about a target, else None.
            sets: whether every answer lists its label set too.
            all_scores: whether every answer lists the probabilities of all labels, or only that of its own.
        Raises:
            UserError: if targets are missing, superfluous, of another number, or too long, or the bundle has no label sets.
        """
        self.check_targets(texts, targets)
        if sets:
            self.check_sets()
        if targets is None:
            return [self._answer(text, None, sets, all_scores) for text in texts]
        return [self._answer(text, target, sets, all_scores) for text, target in zip(texts, targets, strict=True)]

    def traced(self, text: str, target: str | None = None, *, sets: bool = False) -> tuple[Answer, Trace]:
        """(the answer to one text, how it came about); see :meth:`classify`, and raises as it does."""
        self.check_targets([text], None if target is None else [target])
        if sets:
            self.check_sets()
        trace = Trace()
        return self._answer(text, target, sets, True, trace), trace

    def probs(self, texts: Sequence[str | bytes], targets: Sequence[str | bytes] | None = None) -> NDArray[np.float64]:
        """Calibrated probabilities, float64 [B, C] in label order; rows sum to 1. Raises as :meth:`classify`."""
        self.check_targets(texts, targets)
        abouts: Sequence[str | bytes | None] = targets if targets is not None else [None] * len(texts)
        rows = [self._decide(text, about)[0] for text, about in zip(texts, abouts, strict=True)]
        return np.array(rows, np.float64).reshape(len(rows), len(self._labels))

    def logits(self, texts: Sequence[str | bytes], targets: Sequence[str | bytes] | None = None) -> NDArray[np.float32]:
        """The model's outputs, float32 [B, C] in label order; in a cascade those of its slow graph. Raises as :meth:`classify`."""
        self.check_targets(texts, targets)
        abouts: Sequence[str | bytes | None] = targets if targets is not None else [None] * len(texts)
        rows = [self.run(self.tokenize.ids(text, about)) for text, about in zip(texts, abouts, strict=True)]
        return np.concatenate(rows) if rows else np.empty((0, len(self._labels)), np.float32)

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

    def check_targets(self, texts: Sequence[str | bytes], targets: Sequence[str | bytes] | None) -> None:
        """Refuse a call that does not fit the task; raises UserError, or TypeError for a bare string or bare bytes."""
        if isinstance(texts, str | bytes):
            raise TypeError("texts is one string; give a list of strings")
        if self.manifest.target and targets is None:
            raise UserError("targets are missing; this bundle answers about a target, so give one for each text")
        if not self.manifest.target and targets is not None:
            raise UserError("targets are given, but this bundle answers without a target; leave them out")
        if targets is not None and len(targets) != len(texts):
            raise UserError(f"there are {len(targets)} targets for {len(texts)} texts; give one for each")

    def close(self) -> None:
        """Free the sessions; the classifier answers no more."""
        del self.session, self.scorer, self.fast

    def __enter__(self) -> Classifier:
        """The classifier itself; it is closed when the block ends."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _decide(
        self, text: str | bytes, target: str | bytes | None, trace: Trace | None = None
    ) -> tuple[list[float], list[float | None]]:
        """Probabilities in label order, and the thresholds of the graph that they come from."""
        if self.fast is not None:
            probs = self.fast.probs(text, target, trace)
            if max(probs) >= self._sure:
                return probs, self._fast_thresholds
        return self.scorer.probs(text, target, trace), self._thresholds

    def _answer(
        self, text: str | bytes, target: str | bytes | None, sets: bool, all_scores: bool, trace: Trace | None = None
    ) -> Answer:
        """What is said about one text; a tie goes to the earlier label."""
        probs, thresholds = self._decide(text, target, trace)
        prob = max(probs)
        best = probs.index(prob)
        label_set = None
        if sets and self.manifest.conformal is not None:
            most = self.manifest.conformal.quantile + SET_SLACK
            label_set = [name for name, prob in zip(self._labels, probs, strict=True) if 1 - prob <= most]
        label, least = self._labels[best], thresholds[best]
        scores = dict(zip(self._labels, probs, strict=True)) if all_scores else {label: prob}
        if least is None:
            return Answer(label, scores, False, label_set)
        if least == math.inf:
            return Answer(label, scores, True, label_set, NEVER, None)
        missed = prob < least
        return Answer(label, scores, missed, label_set, MISSED if missed else REACHED, least)


def _in_order(thresholds: dict[str, float | None] | None, labels: list[str]) -> list[float | None]:
    """Each label's threshold: infinite where it is never answered, None where there is none."""
    found: list[float | None] = []
    for name in labels:
        if thresholds is None or name not in thresholds:
            found.append(None)
        else:
            found.append(math.inf if (least := thresholds[name]) is None else least)
    return found


def _probs(scorer: Scorer, texts: Sequence[str], targets: Sequence[str] | None) -> NDArray[np.float64]:
    """What one graph alone says, float64 [B, C]."""
    abouts: Sequence[str | None] = targets if targets is not None else [None] * len(texts)
    return np.array([scorer.probs(text, about) for text, about in zip(texts, abouts, strict=True)])


def softmax(logits: NDArray[np.float32], temperature: float, bias: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Probabilities float64 [B, C] of logits [B, C] over a temperature above 0, plus a bias [C] if any; rows sum to 1."""
    scaled = logits.astype(np.float64) / temperature
    if bias is not None:
        scaled = scaled + bias
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))  # the shift keeps exp() finite
    probs: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return probs
