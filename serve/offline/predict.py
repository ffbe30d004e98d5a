"""Answer a whole file of texts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from potstill.contract.system.machine import usable_cores
from potstill.contract.texts import Text, read_texts, texts_and_targets
from potstill.serve.runtime.classifier import Classifier

CHUNK = 256  # texts handed to the threads at once, which bounds the answers held in memory


@dataclass(frozen=True)
class PredictConfig:
    """Settings for answering a file."""

    workers: int | None = None  # texts answered in parallel; None: as many as usable cores
    sets: bool = False  # add the label set to every answer


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of output: a text's id and target, and the answer to it."""

    id: str
    label: str
    probs: dict[str, float]
    abstain: bool
    label_set: list[str] | None = None
    target: str | None = None


_PREDICT = PredictConfig()


def predict_file(bundle: str | Path, path: str | Path, config: PredictConfig = _PREDICT) -> tuple[Iterator[Prediction], str]:
    """(answers in file order, computed while they are iterated over; a line on skipped rows, empty if none was skipped).

    Args:
        bundle: the folder.
        path: texts in any form that `contract/texts.py` reads; gold labels are ignored.
        config: parallelism and label sets.
    Raises:
        FormatError: if the texts or the bundle are malformed, or targets are missing or unexpected. Nothing is answered then.
        UserError: if the golden texts drifted, or label sets are asked for and the bundle has none; later, from the iterator, if a
            target is too long.
    """
    classifier = Classifier.open(bundle)
    if config.sets:
        classifier.check_sets()
    texts = read_texts(path, target=classifier.manifest.target)
    return _predictions(classifier, texts.texts, config), texts.skipped_line()


def _predictions(classifier: Classifier, texts: list[Text], config: PredictConfig) -> Iterator[Prediction]:
    """Answer in order, in several threads."""
    with classifier, ThreadPoolExecutor(config.workers or usable_cores(), thread_name_prefix="answer") as pool:
        for start in range(0, len(texts), CHUNK):
            yield from pool.map(lambda text: _prediction(classifier, text, config.sets), texts[start : start + CHUNK])


def _prediction(classifier: Classifier, text: Text, sets: bool) -> Prediction:
    """Answer one text."""
    answer = classifier.classify(*texts_and_targets([text]), sets=sets)[0]
    return Prediction(text.id, answer.label, answer.probs, answer.abstain, answer.label_set, text.target)
