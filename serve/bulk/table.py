"""Predictions as bytes: lines of JSON, lines of CSV, or an Arrow stream with the columns of a Parquet file.

A table has a column for each number, as the flat soft labels have: `probs.LABEL`, and of several questions `QUESTION.probs.LABEL`.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from potstill.contract.bundle import BundleFiles, Manifest
from potstill.contract.files import arrow
from potstill.contract.promises.familiarity import FAMILIARITY_FILE
from potstill.serve.config import Form
from potstill.serve.offline.predict import Prediction, RowAnswers
from potstill.serve.runtime.heads import QuestionAnswer

Row = Prediction | RowAnswers
GZIP_LEVEL = 6  # the library's own default

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class PredictionTable:
    """The columns of the predictions of a bundle, in order, each with its type as `arrow.encode_stream` names it."""

    types: dict[str, str]
    bundle: str  # digest, which Parquet files carry

    @classmethod
    def of(cls, manifest: Manifest, files: BundleFiles, *, sets: bool) -> PredictionTable:
        """The table of a bundle. Args: its manifest and files; whether label sets are listed."""
        types = {"id": "string"} | ({"target": "string"} if manifest.target else {})
        if manifest.heads is None:
            types |= {"label": "string", "abstain": "bool"} | {f"probs.{label}": "float64" for label in manifest.labels}
            types |= {"label_set": "strings"} if sets else {}
        else:
            for head in manifest.heads:
                types |= {f"{head.name}.tags": "strings"} if head.kind == "tags" else {f"{head.name}.label": "string"}
                types |= {f"{head.name}.value": "float64"} if head.kind == "degree" else {}
                types |= {f"{head.name}.abstain": "bool"} | {f"{head.name}.probs.{label}": "float64" for label in head.labels}
                types |= {f"{head.name}.label_set": "strings"} if sets and head.conformal is not None else {}
            types["abstain"] = "bool"
        types["skipped"] = "string"
        if files.has(FAMILIARITY_FILE):
            types |= {"unfamiliar": "bool", "unfamiliarity": "float64"}
        return cls(types, files.digest)

    def encode(self, rows: Sequence[Row], form: Form) -> bytes:
        """The rows in one of the forms; of CSV without the header, of gzip a member of its own."""
        if form == "csv":
            return self._csv([_flat(row) for row in rows])
        if form == "parquet":
            flat = [_flat(row) for row in rows]
            columns = {name: [row.get(name) for row in flat] for name in self.types}
            return arrow.encode_stream(columns, self.types, {"potstill": "predictions", "bundle": self.bundle})
        lines = b"".join(_encoder.encode(row) + b"\n" for row in rows)
        return gzip.compress(lines, GZIP_LEVEL, mtime=0) if form == "jsonl.gz" else lines  # no time, so that equal runs are equal

    def header(self, form: Form) -> bytes:
        """What a file begins with."""
        return self._csv([dict(zip(self.types, self.types, strict=True))]) if form == "csv" else b""

    def _csv(self, rows: Sequence[dict[str, Any]]) -> bytes:
        """Lines of CSV; an absent value is an empty cell, a list is JSON."""
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator="\n").writerows([_cell(row.get(name)) for name in self.types] for row in rows)
        return out.getvalue().encode()


def _flat(row: Row) -> dict[str, Any]:
    """A row's values by column."""
    known = {"unfamiliar": row.unfamiliar, "unfamiliarity": row.unfamiliarity}
    shared = {"id": row.id, "target": row.target, "abstain": row.abstain, "skipped": row.skipped, **known}
    if isinstance(row, Prediction):
        return shared | {"label": row.label, "label_set": row.label_set} | {f"probs.{label}": p for label, p in row.probs.items()}
    return shared | {f"{name}.{key}": value for name, answer in row.questions.items() for key, value in _answer(answer).items()}


def _answer(answer: QuestionAnswer) -> dict[str, Any]:
    """One question's values by what is behind its name."""
    found = {"label": answer.label, "tags": answer.tags, "value": answer.value, "abstain": answer.abstain}
    return found | {"label_set": answer.label_set} | {f"probs.{label}": p for label, p in answer.probs.items()}


def _cell(value: Any) -> Any:
    """A value as a cell of CSV: true and false as in JSON."""
    if isinstance(value, bool | list):
        return _encoder.encode(value).decode()
    return value
