"""Soft labels as one flat table, a column a number, for spreadsheets and data frames (JSON lines, CSV, Parquet, `datasets`).

Nothing of ours reads it back: training takes the soft labels of `contract/soft_label.py`. The teacher's favourite stands under
`majority`, never `label`, which elsewhere is what a person said.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.files import arrow, atomic
from potstill.contract.interchange import dataset_folder
from potstill.contract.soft_label import SoftLabel

_STRING, _FLOAT, _INT = ({"dtype": dtype, "_type": "Value"} for dtype in ("string", "float64", "int64"))


def write_jsonl(path: Path, rows: Sequence[SoftLabel]) -> None:
    """One JSON object a line; raises UserError if the disk refuses."""
    atomic.write_file(path, b"".join(msgspec.json.encode(flat(row)) + b"\n" for row in rows))


def write_csv(path: Path, rows: Sequence[SoftLabel]) -> None:
    """UTF-8 with a header; a missing target or gold label is an empty cell. Raises UserError if the disk refuses."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(flat(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat(row) for row in rows)
    atomic.write_file(path, out.getvalue().encode())


def write_parquet(path: Path, rows: Sequence[SoftLabel]) -> None:
    """One table; raises UserError if the disk refuses, MissingExtraError without pyarrow."""
    atomic.write_file(path, arrow.encode_parquet([flat(row) for row in rows], {}))


def write_dataset(path: Path, rows: Sequence[SoftLabel]) -> None:
    """A folder for `datasets.load_from_disk`, majority and gold as ClassLabel; raises as :func:`dataset_folder.write` does."""
    names = list(rows[0].probs)
    classes = {"names": names, "_type": "ClassLabel"}
    table = [flat(row) for row in rows]
    columns: dict[str, list[Any]] = {name: [row[name] for row in table] for name in table[0]}
    for name in ("majority", "gold"):
        columns[name] = [None if value is None else names.index(value) for value in columns[name]]
    dataset_folder.write(path, columns, {name: classes if name in ("majority", "gold") else _feature(name) for name in columns})


def flat(row: SoftLabel) -> dict[str, Any]:
    """One row: text, what the teacher thinks, and by label `probs.<label>` and `votes.<label>`."""
    return {
        "id": row.id,
        "text": row.text,
        "target": row.target,
        "gold": row.gold,
        "majority": row.majority,
        "agreement": row.agreement,
        "entropy": row.entropy,
        "label_mass": row.label_mass,
        "n_paths": row.n_paths,
        "method": row.method,
        **{f"probs.{name}": p for name, p in row.probs.items()},
        **{f"votes.{name}": n for name, n in row.votes.items()},
    }


def _feature(name: str) -> dict[str, str]:
    """How the `datasets` library is told a column's type."""
    if name == "n_paths" or name.startswith("votes."):
        return _INT
    return _FLOAT if name in ("agreement", "entropy", "label_mass") or name.startswith("probs.") else _STRING
