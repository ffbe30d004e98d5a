"""Check a label store: SQLite's own check of the file, and for every path whether its run can have drawn it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from potstill.contract.errors import FormatError, count_of
from potstill.contract.files import digest
from potstill.labeler.store import candidate_rows
from potstill.labeler.store.database import LabelStore, Run, RunSettings
from potstill.labeler.teacher import NOT_ASKED, path_seed

_MAX_LOGPROB = 1e-6  # rounding may put the logarithm of a probability of 1 above 0
_RESTORE = "restore a copy of the store, or label into another folder"
_DRAW_AGAIN = "label again with --new-run"


@dataclass(frozen=True)
class StoreCheck:
    """The content of a store, and what is wrong with it."""

    counts: list[str]  # one line for the whole store, then one per run
    faults: list[str]  # one line each: where, how many rows, what is wrong, what to do; empty if the store is sound


class _PathRow(msgspec.Struct, array_like=True):
    """The columns of `paths` that are checked."""

    text_id: str
    path: int
    variant: int
    seed: int
    word_logprobs: str
    n_prompt_tokens: int
    n_generated: int


def check_store(store: LabelStore) -> StoreCheck:
    """Check every row.

    Raises:
        FormatError: if the file is too damaged to be read.
    """
    complaints = [str(row[0]) for row in store.query("pragma integrity_check")]
    if complaints != ["ok"]:
        first = complaints[0].removeprefix("*** in database main ***").split("\n")
        return StoreCheck([], [f"the file is damaged ({next(line for line in first if line)}); {_RESTORE}"])
    ((n_texts,),) = store.query("select count(*) from texts")
    runs = store.query("select run, digest, settings from runs order by run")
    counts, faults = [f"{count_of(len(runs), 'run')}, {count_of(n_texts, 'text')}"], list(_unknown_parents(store))
    for number, expected, settings_json in runs:
        try:
            settings = msgspec.json.decode(settings_json, type=RunSettings)
            found = digest.of_value(msgspec.json.decode(settings_json))  # as stored: a newer version may know more settings
        except (msgspec.MsgspecError, TypeError) as error:
            faults.append(f"run {number}: its settings cannot be read ({error}); {_RESTORE}")
            continue
        if found != expected:
            faults.append(f"run {number}: its settings do not match its digest; {_DRAW_AGAIN}")
        if settings.after and not any(other.settings.digest == settings.after for other in store.runs()):
            faults.append(f"run {number}: follows a run that the store lacks; {_RESTORE}")
        rows = store.query(f"select {', '.join(_PathRow.__struct_fields__)} from paths where run = ?", number)
        wrong = Counter(fault for row in rows for fault in _faults(settings, row))
        faults += [f"run {number}: {count} of {len(rows)} paths {fault}; {_DRAW_AGAIN}" for fault, count in wrong.items()]
        n_labelled = len({row[0] for row in rows})
        faults += _without_candidates(store, settings, number)
        ((n_too_long,),) = store.query("select count(*) from too_long where run = ?", number)
        paths, labelled, too_long = count_of(len(rows), "path"), count_of(n_labelled, "text"), count_of(n_too_long, "text")
        counts.append(f"run {number}: mode {settings.mode}, {paths} of {labelled}, {too_long} too long")
    return StoreCheck(counts, faults)


def _without_candidates(store: LabelStore, settings: RunSettings, number: int) -> Iterator[str]:
    """What is wrong with the candidates of a run that asks about them."""
    if not settings.candidates:
        return
    try:
        known = store.candidates(Run(number, settings))
    except FormatError as error:
        yield f"run {number}: {error}"
        return
    rows = store.query("select distinct text_id from paths where run = ?", number)
    if n_missing := sum(row[0] not in known for row in rows):
        have = f"{count_of(n_missing, 'text')} {'has' if n_missing == 1 else 'have'}"
        yield f"run {number}: {have} paths and no candidates; {_DRAW_AGAIN}"


def _unknown_parents(store: LabelStore) -> Iterator[str]:
    """Rows that belong to a text or a run that is missing."""
    found = Counter((row[0], row[2]) for row in store.query("pragma foreign_key_check"))
    for (table, parent), count in found.items():
        yield f"{count} rows of {table} refer to missing {parent}; {_RESTORE}"


def _faults(settings: RunSettings, row: tuple[Any, ...]) -> Iterator[str]:
    """What is wrong with one path."""
    try:
        path = msgspec.convert(row, _PathRow)
        asked = candidate_rows.words(f"[{path.word_logprobs}]")[0] if settings.asks_some else None
        logprobs = msgspec.json.decode(path.word_logprobs, type=list[float]) if asked is None else asked
    except msgspec.MsgspecError:
        yield "hold a value that cannot be read"
        return
    if len(logprobs) != len(settings.words):
        yield f"do not have one log-probability for each of the run's {len(settings.words)} label words"
    known = [value for value in logprobs if value != NOT_ASKED] if settings.asks_some else logprobs
    if settings.asks_some and not known:
        yield "were asked about no label"
    if not all(math.isfinite(value) and value <= _MAX_LOGPROB for value in known):
        yield "hold a log-probability that is above 0 or not finite"
    if not 0 <= path.variant < settings.n_variants:
        yield f"have a variant that the run lacks (it has 0 to {settings.n_variants - 1})"
    elif settings.mode_of(path.variant) == "cot" and path.seed != path_seed(settings.seed, path.text_id, path.path):
        yield "have a seed that does not follow from their text and number"
    if min(path.path, path.n_prompt_tokens, path.n_generated) < 0:
        yield "hold a number below 0"
