"""Candidates in a label store: which labels each text was asked among, and what was believed of it before.

The table is made by the first run that asks about candidates; a store without such a run is as it always was. A path of such a run
holds `null` for a label word that was not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError
from potstill.labeler.candidates import Candidates
from potstill.labeler.teacher import NOT_ASKED

SCHEMA = """
create table if not exists candidates (
    run integer not null references runs, text_id text not null references texts, labels text not null, log_prior text not null,
    primary key (run, text_id)) without rowid"""
EXISTS = "select 1 from sqlite_master where type = 'table' and name = 'candidates'"
QUERY = "select text_id, labels, log_prior from candidates where run = ?"


def row(run: int, text_id: str, found: Candidates) -> tuple[Any, ...]:
    """A text's candidates as a row of the table."""
    return run, text_id, msgspec.json.encode(found.labels).decode(), msgspec.json.encode(found.log_prior).decode()


def read(path: Path, stored: tuple[str, str, str], n_labels: int) -> tuple[str, Candidates]:
    """(text id, its candidates) from a row of :data:`QUERY`.

    Args:
        path: of the store, for errors.
        n_labels: of the run.
    Raises:
        FormatError: if the row is damaged.
    """
    text_id, labels, log_prior = stored
    try:
        found = Candidates(
            msgspec.json.decode(labels, type=tuple[int, ...]), msgspec.json.decode(log_prior, type=tuple[float, ...])
        )
    except (msgspec.MsgspecError, TypeError):
        found = Candidates((), ())
    if len(found.log_prior) != n_labels or not found.labels or not all(0 <= label < n_labels for label in found.labels):
        problem = f"are damaged: {labels!r:.60}; restore a copy, or label into another folder"
        raise FormatError(path, f"candidates of text {text_id!r}", problem)
    return text_id, found


def storable(words: Sequence[float]) -> list[float | None]:
    """A path's log-probabilities as JSON can hold them."""
    return [None if value == NOT_ASKED else value for value in words]


def words(stored: str) -> list[list[float]]:
    """Log-probabilities of several paths. Args: stored, a JSON list of lists; raises msgspec.MsgspecError if it is not."""
    found = msgspec.json.decode(stored, type=list[list[float | None]])
    return [[NOT_ASKED if value is None else value for value in path] for path in found]
