"""Answering a whole file of texts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from potstill.contract.system.cores import usable_cores
from potstill.contract.texts import Text, read_texts
from potstill.serve.runtime.classifier import Classifier

CHUNK = 256  # texts under way at once, so that a long file needs no more memory than its texts


@dataclass(frozen=True)
class PredictConfig:
    """How a file is answered."""

    workers: int | None = None  # texts answered at once; None: the usable cores
    sets: bool = False  # whether every answer lists its label set


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the answer: which text, and what is said about it."""

    id: str
    label: str
    probs: dict[str, float]
    abstain: bool
    label_set: list[str] | None = None
    target: str | None = None


_PREDICT = PredictConfig()


def predict_file(bundle: str | Path, path: str | Path, config: PredictConfig = _PREDICT) -> tuple[Iterator[Prediction], str]:
    """The file's answers in file order, made while they are read, and a line on the rows skipped (empty if none was).

    Args:
        bundle: the folder.
        path: texts in any form that `contract/texts.py` reads; gold labels in it are not looked at.
        config: how.
    Raises:
        FormatError: if the texts or the bundle are malformed, or targets are missing or superfluous. Nothing is answered then.
        UserError: if the bundle drifted, or has no label sets where they are asked for; later, from the iterator, if a target is
            too long.
    """
    classifier = Classifier.open(bundle)
    if config.sets:
        classifier.check_sets()
    texts = read_texts(path, target=classifier.manifest.target)
    return _predictions(classifier, texts.texts, config), texts.skipped_line()


def _predictions(classifier: Classifier, texts: list[Text], config: PredictConfig) -> Iterator[Prediction]:
    """Answers in order, from several threads."""
    with classifier, ThreadPoolExecutor(config.workers or usable_cores(), thread_name_prefix="answer") as pool:
        for start in range(0, len(texts), CHUNK):
            yield from pool.map(lambda text: _prediction(classifier, text, config.sets), texts[start : start + CHUNK])


def _prediction(classifier: Classifier, text: Text, sets: bool) -> Prediction:
    """One text's answer."""
    targets = [text.target or ""] if classifier.manifest.target else None
    answer = classifier.classify([text.text], targets, sets=sets)[0]
    return Prediction(text.id, answer.label, answer.probs, answer.abstain, answer.label_set, text.target)
