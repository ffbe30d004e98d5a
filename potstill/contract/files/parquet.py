"""Parquet tables as lists of rows. pyarrow is imported only when one is read or written: JSON lines need no extra."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from potstill.contract.errors import FormatError, MissingExtraError
from potstill.contract.files import decode


def read(path: Path, form: str | None = None) -> list[dict[str, Any]]:
    """The rows of a Parquet file.

    Args:
        path: of the file.
        form: what `format` in its metadata must be, if it is there at all; None takes any table.
    Raises:
        FormatError: if the file is missing, damaged, or of another format.
        MissingExtraError: without pyarrow.
    """
    rows, metadata = read_with_metadata(path)
    found = metadata.get(b"format", b"").decode("utf-8", "replace")
    if form and found and found != form:
        raise FormatError(path, "format", f"is {found!r}; this version reads {form!r}")
    return rows


def read_with_metadata(path: Path) -> tuple[list[dict[str, Any]], dict[bytes, bytes]]:
    """The rows of a Parquet file and the metadata of its schema; raises as :func:`read` does."""
    data = decode.read_bytes(path)
    pyarrow, parquet = _pyarrow()
    try:
        table = parquet.read_table(io.BytesIO(data))
        rows: list[dict[str, Any]] = table.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise FormatError(path, "", f"not a readable Parquet file: {error}") from error
    return rows, table.schema.metadata or {}


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
