"""Answer a whole file of texts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from potstill.contract.system.machine import usable_cores
from potstill.contract.texts import Text, read_rows, texts_and_targets
from potstill.serve.config import PredictConfig
from potstill.serve.runtime.classifier import Classifier
from potstill.serve.runtime.heads import QuestionAnswer

CHUNK = 256  # texts handed to the threads at once, which bounds the answers held in memory


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of output: a row's id and target, and the answer to it."""

    id: str
    label: str | None  # None: the row was skipped
    probs: dict[str, float]
    abstain: bool
    label_set: list[str] | None = None
    target: str | None = None
    skipped: str | None = None  # why there is no answer: the row is empty
    unfamiliar: bool | None = None  # as `Answer` has it
    unfamiliarity: float | None = None


class RowAnswers(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of output of a bundle with several questions: a row's id and target, and the answer to each question."""

    id: str
    questions: dict[str, QuestionAnswer]  # by question, in order; empty: the row was skipped
    abstain: bool  # every question abstains
    target: str | None = None
    skipped: str | None = None  # as in the other lines
    unfamiliar: bool | None = None
    unfamiliarity: float | None = None


_PREDICT = PredictConfig()


def predict_file(
    bundle: str | Path, path: str | Path, config: PredictConfig = _PREDICT
) -> tuple[Iterator[Prediction | RowAnswers], str]:
    """(an answer for every row in file order, computed while they are iterated over; a line on empty rows, "" without any).

    Args:
        bundle: the folder.
        path: texts in any form that `contract/texts.py` reads; gold labels are ignored.
        config: parallelism and label sets.
    Raises:
        FormatError: if the texts or the bundle are malformed, or targets are missing or unexpected. Nothing is answered then.
        UserError: if the golden texts drifted, or label sets are asked for and the bundle has none; later, from the iterator, if a
            target is too long.
    """
    classifier = Classifier.open(bundle, trust=config.trust)
    if config.sets:
        classifier.check_sets()
    rows = read_rows(path, target=classifier.manifest.target)
    return _predictions(classifier, rows, config), skipped_line(sum(reason != "" for _, reason in rows), len(rows))


def skipped_line(n_skipped: int, n_rows: int) -> str:
    """A line on empty rows, "" without any."""
    line = f"{n_skipped} of {n_rows} rows {'is' if n_skipped == 1 else 'are'} empty; no label is written for such a row"
    return line if n_skipped else ""


def _predictions(classifier: Classifier, rows: list[tuple[Text, str]], config: PredictConfig) -> Iterator[Prediction | RowAnswers]:
    """Answer in order, in several threads."""
    with classifier, ThreadPoolExecutor(config.workers or usable_cores(), thread_name_prefix="answer") as pool:
        for start in range(0, len(rows), CHUNK):
            yield from pool.map(lambda row: answer_row(classifier, row[0], row[1], config.sets), rows[start : start + CHUNK])


def answer_row(classifier: Classifier, text: Text, reason: str, sets: bool) -> Prediction | RowAnswers:
    """Answer one row.

    Args:
        classifier: the open bundle.
        text, reason: as `read_rows` gives them.
        sets: add the label set.
    Raises:
        UserError: if the target is too long.
    """
    if reason and classifier.manifest.heads is not None:
        return RowAnswers(text.id, {}, True, text.target, reason)
    if reason:
        return Prediction(text.id, None, {}, True, None, text.target, reason)
    answer = classifier.classify(*texts_and_targets([text]), sets=sets)[0]
    known = answer.unfamiliar, answer.unfamiliarity
    if answer.questions is not None:
        return RowAnswers(text.id, answer.questions, answer.abstain, text.target, None, *known)
    return Prediction(text.id, answer.label, answer.probs, answer.abstain, answer.label_set, text.target, None, *known)
