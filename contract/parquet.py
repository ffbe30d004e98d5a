"""Parquet tables as lists of rows. pyarrow is imported only when one is read or written: JSON lines need no extra."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from contract import decode
from contract.errors import FormatError, MissingExtraError


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file; raises FormatError if it is missing or damaged, MissingExtraError without pyarrow."""
    data = decode.read_bytes(path)
    pyarrow, parquet = _pyarrow()
    try:
        rows: list[dict[str, Any]] = parquet.read_table(io.BytesIO(data)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise FormatError(path, "", f"not a readable Parquet file: {error}") from error
    return rows


def encode(rows: list[dict[str, Any]], metadata: dict[str, str]) -> bytes:
    """The rows as the bytes of a Parquet file, with text metadata in its schema. Raises MissingExtraError without pyarrow."""
    pyarrow, parquet = _pyarrow()
    table = pyarrow.Table.from_pylist(rows)
    sink = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    return sink.getvalue()


def _pyarrow() -> tuple[Any, Any]:
    """The two modules, or one line that says how to get them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "label") from None
    return pyarrow, pyarrow.parquet
