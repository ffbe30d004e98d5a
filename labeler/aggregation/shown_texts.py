"""Stored texts as a person looks at them: what the paths made of each, and what some of them said.

Texts are chosen from their soft labels; the rationales of a text are read when it is its turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel
from potstill.labeler.aggregation.config import ShowConfig
from potstill.labeler.aggregation.path_table import path_logprobs
from potstill.labeler.store.database import LabelStore, Run


@dataclass(frozen=True)
class PathRationale:
    """What one path said, and the label it chose before any calibration."""

    label: str
    text: str


@dataclass(frozen=True)
class ShownText:
    """One text with its soft label and some of its paths."""

    row: SoftLabel
    rationales: list[PathRationale]


def chosen_rows(rows: Sequence[SoftLabel], labels: Sequence[str], config: ShowConfig) -> list[SoftLabel]:
    """The rows to show, in order; raises UserError if the label is not one of the run's."""
    if config.label is not None and config.label not in labels:
        raise UserError(f"{config.label!r} is not a label of this run; its labels are {', '.join(labels)}")
    words = [word.casefold() for word in (config.words or "").split()]
    found = [
        row
        for row in rows
        if (config.label is None or row.majority == config.label) and all(word in row.text.casefold() for word in words)
    ]
    found.sort(key=(lambda row: (-row.entropy, row.id)) if config.uncertain else (lambda row: (0.0, row.id)))
    return found[: config.most]


def shown_texts(store: LabelStore, run: Run, rows: Sequence[SoftLabel], config: ShowConfig) -> Iterator[ShownText]:
    """The rows with some of their rationales, one after the other. Args: rows, of this run, and of the one before where two
    teachers were asked."""
    runs = [run, *([first] if (first := store.first_run(run)) else [])]
    for row in rows:
        found = [one for own in runs for one in _rationales(store, own, row.id)] if config.rationales else []
        yield ShownText(row, _differing(found, config.rationales))


def _rationales(store: LabelStore, run: Run, text_id: str) -> list[PathRationale]:
    """What the paths of a text said, those that said something."""
    paths = [path for path in store.paths_of(run, text_id) if path.rationale.strip()]
    if not paths:
        return []
    favourites = path_logprobs(paths, run.settings).argmax(axis=1)
    return [PathRationale(run.settings.labels[best], path.rationale.strip()) for path, best in zip(paths, favourites, strict=True)]


def _differing(found: Sequence[PathRationale], most: int) -> list[PathRationale]:
    """At most so many rationales, each label's in turn, so that few of them show what speaks for each label."""
    turns: dict[str, int] = {}
    order = []
    for place, one in enumerate(found):
        turns[one.label] = turns.get(one.label, -1) + 1
        order.append((turns[one.label], place))
    return [found[place] for _, place in sorted(order)[:most]]
