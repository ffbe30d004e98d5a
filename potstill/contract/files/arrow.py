"""Parquet files and Arrow streams as lists of rows. pyarrow is imported on first use: JSON lines and CSV do not need it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from potstill.contract.errors import FormatError, MissingExtraError
from potstill.contract.files import decode


def read_parquet(path: Path, form: str | None = None) -> list[dict[str, Any]]:
    """Read the rows of a Parquet file.

    Args:
        path: the file.
        form: the value that `format` in its metadata must have, if it is there; None accepts any table.
    Raises:
        FormatError: if the file is missing, damaged, or of another format.
        MissingExtraError: without pyarrow.
    """
    rows, metadata = read_parquet_with_metadata(path)
    found = metadata.get(b"format", b"").decode("utf-8", "replace")
    if form and found and found != form:
        raise FormatError(path, "format", f"is {found!r}; this version reads {form!r}")
    return rows


def read_parquet_with_metadata(path: Path) -> tuple[list[dict[str, Any]], dict[bytes, bytes]]:
    """Read the rows of a Parquet file and the metadata of its schema; raises as :func:`read_parquet` does."""
    data = decode.read_bytes(path)
    pyarrow = _pyarrow()
    table = None
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(data))
        rows: list[dict[str, Any]] = table.to_pylist()
    except UnicodeDecodeError as error:
        raise _not_utf8(path, table, error) from error
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two: a date that Python has not
        raise FormatError(path, "", f"not a readable Parquet file: {error}") from error
    return rows, table.schema.metadata or {}


def encode_parquet(rows: list[dict[str, Any]], metadata: dict[str, str]) -> bytes:
    """Encode rows as a Parquet file, with text metadata in its schema. Raises MissingExtraError without pyarrow."""
    pyarrow = _pyarrow()
    table = pyarrow.Table.from_pylist(rows)
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    return sink.getvalue()


def read_stream(path: Path) -> list[dict[str, Any]]:
    """Read the rows of an Arrow IPC stream, the file type inside a `datasets` folder.

    Raises:
        FormatError: if the file is missing or damaged.
        MissingExtraError: without pyarrow.
    """
    data = decode.read_bytes(path)
    pyarrow = _pyarrow()
    try:
        rows: list[dict[str, Any]] = pyarrow.ipc.open_stream(data).read_all().to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise FormatError(path, "", f"not a readable Arrow stream: {error}") from error
    return rows


def encode_stream(columns: dict[str, list[Any]], types: dict[str, str], metadata: dict[str, str]) -> bytes:
    """Encode columns as an Arrow IPC stream.

    Args:
        columns: values by name, all of one length; None is a missing value.
        types: Arrow's name of each column's type: string, int64, float64.
        metadata: the schema's.
    Raises:
        MissingExtraError: without pyarrow.
    """
    pyarrow = _pyarrow()
    schema = pyarrow.schema([(name, pyarrow.type_for_alias(types[name])) for name in columns], metadata)
    table = pyarrow.table(columns, schema)
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _not_utf8(path: Path, table: Any, error: UnicodeDecodeError) -> FormatError:
    """The error about a string that is not UTF-8, with the row and column where it stands; Arrow itself does not check."""
    found = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
    try:
        names = table.column_names if table is not None else []
    except UnicodeDecodeError:
        names = []
    for name in names:
        for row, value in enumerate(table.column(name), 1):
            try:
                value.as_py()
            except UnicodeDecodeError:
                return FormatError(path, f"row {row}: {name}", f"{found}; write the file again with its texts as UTF-8")
    return FormatError(path, "", f"not a readable Parquet file: in a column's name, {found}; write it again as UTF-8")


def _pyarrow() -> Any:
    """Import pyarrow with its Parquet module; raises MissingExtraError with the install command."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "label") from None
    return pyarrow
