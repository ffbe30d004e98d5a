"""Rationales of the teacher about one text that came to different answers, read from the store when a person asks for them."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.store.questions import labelling, question_name, tag_name
from potstill.review.corpus.texts import Corpus

N_SHOWN = 3  # rationales of a text
_QUERY = "select rationale, word_logprobs from paths where run = ? and text_id = ? order by path"


@dataclass(frozen=True)
class ShownRationale:
    """One rationale, and where it led."""

    question: str  # its name, or question/tag; empty: the task's only one
    label: str
    text: str


def rationales(corpus: Corpus, text_id: str) -> list[ShownRationale]:
    """At most :data:`N_SHOWN` rationales of a text: first one for each label, then others; none where the teacher did not reason.

    Raises:
        FormatError: if the store is damaged.
    """
    with LabelStore.read(corpus.path) as store:
        found = [one for run in _runs(store, corpus.run) for one in _of_run(store, run, text_id)]
    different: dict[tuple[str, str], ShownRationale] = {}
    for one in found:
        different.setdefault((one.question, one.label), one)
    others = [one for one in found if one not in different.values()]
    return [*different.values(), *dict.fromkeys(others)][:N_SHOWN]


def _runs(store: LabelStore, run: Run) -> list[Run]:
    """The runs that the soft labels come from."""
    if run.settings.question:
        return labelling(store, run)
    first = store.first_run(run)
    return [run] if first is None else [run, first]


def _of_run(store: LabelStore, run: Run, text_id: str) -> list[ShownRationale]:
    """All rationales of a text in one run, in the order of its paths."""
    name, tag = question_name(run.settings), tag_name(run.settings)
    shown = []
    for text, words in store.query(_QUERY, run.number, text_id):
        if not text.strip():
            continue
        logprobs = [-np.inf if value is None else value for value in msgspec.json.decode(words)]
        masses = np.zeros(len(run.settings.labels))
        np.add.at(masses, np.array(run.settings.word_labels), np.exp(logprobs))
        label = run.settings.labels[int(masses.argmax())]
        shown.append(ShownRationale(name if tag is None else f"{name}/{tag}", label, " ".join(text.split())))
    return shown
