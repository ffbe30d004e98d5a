"""`potstill predict --engine ray`: Ray Data hands units of work to actors, each with an open bundle, on one machine or many.

Texts are read and answers written by the actors, so neither passes through the driver. Ray Data's own checkpoints are not used:
they hold the id of every row in memory, and need ids that no two rows share.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.bundle import BundleFiles, read_files, read_manifest
from potstill.contract.errors import FormatError, StoppedError, UserError
from potstill.contract.files import arrow
from potstill.contract.system.cluster import ClusterConfig, connected, mapped
from potstill.serve.bulk import units
from potstill.serve.bulk.answering import AnswerSettings, BadRow, PieceAnswerer
from potstill.serve.bulk.units import Store, Unit
from potstill.serve.config import PredictConfig
from potstill.serve.runtime.classifier import check_sets

PLAN_FILE = "_plan.json"
PART = "part-{:05}.parquet"
BAD = "bad-{:05}.jsonl"


@dataclass(frozen=True)
class ClusterReport:
    """What was answered in this session."""

    n_parts: int
    n_parts_before: int  # done in earlier sessions
    n_rows: int
    n_skipped: int
    n_bad: int

    def notes(self) -> list[str]:
        """What a person should know."""
        lines = [f"went on after {self.n_parts_before} of {self.n_parts} parts"] if self.n_parts_before else []
        lines += [f"{self.n_skipped} of {self.n_rows} rows are empty; no label is written for them"] if self.n_skipped else []
        return lines + ([f"{self.n_bad} further rows are malformed; they are in the folder of bad rows"] if self.n_bad else [])


class UnitResult(msgspec.Struct, frozen=True):
    """What an actor says of a unit."""

    number: int
    n_rows: int = 0
    n_skipped: int = 0
    n_bad: int = 0
    problem: tuple[str, str, str] | None = None  # file, place and problem of a malformed row that ends the run


class UnitActor:
    """An open bundle on some machine of the cluster."""

    def __init__(self, settings: AnswerSettings, files: BundleFiles, out: str, bad_rows: str | None) -> None:
        """Open the bundle from bytes that the driver read. Args: out, bad_rows, folders at fsspec addresses."""
        self._answering = PieceAnswerer(settings, files)
        self._out, self._bad_rows = Store(out), None if bad_rows is None else Store(bad_rows)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Answer units, each given and reported on as JSON."""
        results = [self._answer(msgspec.json.decode(unit, type=Unit)) for unit in batch["unit"]]
        return {"result": [msgspec.json.encode(result).decode() for result in results]}

    def _answer(self, unit: Unit) -> UnitResult:
        """Read, answer and write one unit."""
        n_rows = n_skipped = 0
        streams: list[bytes] = []
        bad: list[BadRow] = []
        try:
            for piece in units.pieces(unit):
                answer = self._answering(piece)
                streams.append(answer.data)
                n_rows, n_skipped = n_rows + answer.n_rows, n_skipped + answer.n_skipped
                bad += answer.bad
                if bad and self._bad_rows is None:
                    row = _placed(unit, bad[0])
                    return UnitResult(unit.number, problem=(row.file, row.place, row.problem))
        except FormatError as error:
            return UnitResult(unit.number, problem=(str(error.path), error.place, error.problem))
        if bad and self._bad_rows is not None:
            lines = b"".join(msgspec.json.encode(_placed(unit, row)) + b"\n" for row in bad)
            self._bad_rows.write(BAD.format(unit.number), lines)
        if streams:
            self._out.write(PART.format(unit.number), arrow.parquet_of_streams(streams))
        return UnitResult(unit.number, n_rows, n_skipped, len(bad))


def predict_on_cluster(
    bundle: str | Path,
    address: str,
    out: str,
    config: PredictConfig,
    cluster: ClusterConfig,
    *,
    bad_rows: str | None = None,
    report: Callable[[int], None] = lambda _: None,
) -> ClusterReport:
    """Answer a folder of Parquet or JSON lines into a folder of Parquet parts, whose names are in the order of the input.

    The cluster is the one that the environment variable RAY_ADDRESS names, else one that is started here. Given again, the same
    call makes only the parts that are not there yet.

    Args:
        bundle: the folder, on this machine.
        address: of the texts: a local path or an fsspec address.
        out: the folder for the answers, likewise.
        config: label sets, trust.
        cluster: actors and their threads.
        bad_rows: folder (JSON lines) for malformed rows, which are passed over then; None: the first one that is met is an error.
        report: called with the number of rows that this session has done.
    Raises:
        FormatError: if texts or bundle are malformed, naming the row.
        UserError: if the output belongs to another run, the cluster is too small, or as `Classifier.open`.
        StoppedError: on KeyboardInterrupt.
    """
    files = read_files(Path(bundle), config.trust)
    if config.sets:
        check_sets(read_manifest(files))
    settings = AnswerSettings(Path(bundle), files.digest, "parquet", config.sets, config.trust, cluster.threads_per_actor)
    PieceAnswerer(settings, files)  # what is wrong with it is said here, once
    found = units.units_of(address)
    store = Store(out)
    done = _begin(store, found, settings)
    left = [unit for unit in found if PART.format(unit.number) not in done]
    n_rows = n_skipped = n_bad = 0
    try:
        with connected(cluster):
            arguments = (settings, files, out, bad_rows)
            for result in _results(left, arguments, cluster):
                if result.problem is not None:
                    raise FormatError(*result.problem)
                n_rows, n_skipped, n_bad = n_rows + result.n_rows, n_skipped + result.n_skipped, n_bad + result.n_bad
                report(n_rows)
    except KeyboardInterrupt as stop:
        raise StoppedError(f"{out}: stopped; the same command makes the parts that are not there yet") from stop
    return ClusterReport(len(found), len(found) - len(left), n_rows, n_skipped, n_bad)


def _begin(store: Store, found: list[Unit], settings: AnswerSettings) -> set[str]:
    """The names of the parts that are there; raises UserError if they belong to another run."""
    digest = hashlib.sha256(msgspec.json.encode(found)).hexdigest()
    plan = {"format": 1, "bundle": settings.digest, "sets": settings.sets, "units": digest}
    names = set(store.names())
    if PLAN_FILE not in names:
        if any(name.startswith("part-") for name in names):
            raise UserError(f"{store.address}: holds parts of something else; remove it, or name another place")
        store.write(PLAN_FILE, json.dumps(plan).encode())
    elif json.loads(store.read(PLAN_FILE)) != plan:
        begun = "was begun with another bundle, other options or other texts"
        raise UserError(f"{store.address}: {begun}; remove it, or name another place")
    return names


def _results(left: list[Unit], arguments: tuple[Any, ...], cluster: ClusterConfig) -> Iterator[UnitResult]:
    """What the actors say of each unit, as they finish."""
    rows = [{"unit": msgspec.json.encode(unit).decode()} for unit in left]
    for row in mapped(rows, UnitActor, arguments, cluster):
        yield msgspec.json.decode(row["result"], type=UnitResult)


def _placed(unit: Unit, row: BadRow) -> BadRow:
    """A malformed row with its line in the file: an actor counts from the beginning of its unit."""
    return BadRow(unit.file, units.placed(unit, row.place), row.problem)
