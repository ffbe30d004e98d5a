"""Soft labels as a flat table, a number per column, for spreadsheets and data frames (JSON lines, CSV, XLSX, Parquet, `datasets`).

Nothing here reads it back: training reads the soft labels of `contract/soft_label.py`. The teacher's majority label is in the
column `majority`, not `label`, which means a gold label elsewhere.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.files import arrow, atomic, spreadsheet
from potstill.contract.interchange import dataset_folder
from potstill.contract.soft_label import SoftLabel

_STRING, _FLOAT, _INT = ({"dtype": dtype, "_type": "Value"} for dtype in ("string", "float64", "int64"))


def write_jsonl(path: Path, rows: Sequence[SoftLabel]) -> None:
    """Write one JSON object per line; raises UserError if the file cannot be written."""
    atomic.write_file(path, b"".join(msgspec.json.encode(flat(row)) + b"\n" for row in rows))


def write_csv(path: Path, rows: Sequence[SoftLabel]) -> None:
    """Write UTF-8 with a header; a missing target or gold label is an empty cell. Raises UserError if it cannot be written."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(flat(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat(row) for row in rows)
    atomic.write_file(path, out.getvalue().encode())


def write_xlsx(path: Path, rows: Sequence[SoftLabel]) -> int:
    """Write a workbook of one sheet; the number of texts that are longer than a cell may be, and were cut.

    Raises:
        UserError: if it cannot be written.
        MissingExtraError: without openpyxl.
    """
    table = [flat(row) for row in rows]
    data, n_cut = spreadsheet.encode(list(table[0]), (list(row.values()) for row in table))
    atomic.write_file(path, data)
    return n_cut


def write_parquet(path: Path, rows: Sequence[SoftLabel]) -> None:
    """Write one table; raises UserError if the file cannot be written, MissingExtraError without pyarrow."""
    atomic.write_file(path, arrow.encode_parquet([flat(row) for row in rows], {}))


def write_dataset(path: Path, rows: Sequence[SoftLabel]) -> None:
    """Write a folder for `datasets.load_from_disk`, majority and gold as ClassLabel; raises as :func:`dataset_folder.write`."""
    names = list(rows[0].probs)
    classes = {"names": names, "_type": "ClassLabel"}
    table = [flat(row) for row in rows]
    columns: dict[str, list[Any]] = {name: [row[name] for row in table] for name in table[0]}
    for name in ("majority", "gold"):
        columns[name] = [None if value is None else names.index(value) for value in columns[name]]
    dataset_folder.write(path, columns, {name: classes if name in ("majority", "gold") else _feature(name) for name in columns})


def flat(row: SoftLabel) -> dict[str, Any]:
    """One row: the text, the teacher's figures, and for each label `probs.<label>` and `votes.<label>`."""
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
    """A column's type, as a feature of the `datasets` library."""
    if name == "n_paths" or name.startswith("votes."):
        return _INT
    return _FLOAT if name in ("agreement", "entropy", "label_mass") or name.startswith("probs.") else _STRING
