"""Parquet files and Arrow streams as lists of rows. pyarrow is imported on first use: JSON lines and CSV do not need it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from potstill.contract.errors import FormatError, MissingExtraError
from potstill.contract.files import atomic, decode


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
        raise unreadable(path, error) from error
    return rows, table.schema.metadata or {}


def unreadable(path: Path | str, error: Exception) -> FormatError:
    """The error for a file that pyarrow cannot read, with what pyarrow found and what to do."""
    found = str(error).strip().rstrip(".")
    return FormatError(path, "", f"not a readable Parquet file: {found}; it may be cut off or of another kind: write it again")


def parquet_metadata(path: Path) -> dict[bytes, bytes]:
    """The metadata of the schema of a Parquet file; raises as :func:`read_parquet` does."""
    pyarrow = _pyarrow()
    try:
        return pyarrow.parquet.read_schema(path).metadata or {}
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise unreadable(path, error) from error


def stream_parquet(path: Path, n_rows: int) -> Iterator[dict[str, list[Any]]]:
    """Read a Parquet file in order, a few rows at a time, in bounded memory.

    Args:
        path: the file.
        n_rows: in each batch, at least 1; the last may have fewer.
    Yields:
        The values of each batch by column, all of one length.
    Raises:
        FormatError, MissingExtraError: as :func:`read_parquet`; after the rows before the damaged place.
    """
    pyarrow = _pyarrow()
    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(n_rows, use_threads=False):
                yield batch.to_pydict()
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        raise FormatError(path, "", f"a string is not UTF-8 ({found}); write the file again with its texts as UTF-8") from error
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise unreadable(path, error) from error


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
        types: Arrow's name of each column's type: string, int64, float64, bool; or `strings`, lists of strings.
        metadata: the schema's.
    Raises:
        MissingExtraError: without pyarrow.
    """
    pyarrow = _pyarrow()
    lists = pyarrow.list_(pyarrow.string())
    fields = [(name, lists if types[name] == "strings" else pyarrow.type_for_alias(types[name])) for name in columns]
    schema = pyarrow.schema(fields, metadata)
    table = pyarrow.table(columns, schema)
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet_of_streams(streams: Iterable[bytes]) -> bytes:
    """One Parquet file, of one row group, with the rows of Arrow IPC streams of one schema; raises MissingExtraError."""
    pyarrow = _pyarrow()
    tables = [pyarrow.ipc.open_stream(data).read_all() for data in streams]
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), sink, compression="zstd", use_dictionary=False)
    return sink.getvalue()


def join_parquet(parts: Sequence[Path], path: Path) -> None:
    """Write the row groups of Parquet files of one schema into one file, in order; raises UserError if it cannot be written."""
    pyarrow = _pyarrow()
    with (
        atomic.growing_file(path) as new,
        pyarrow.parquet.ParquetWriter(new, pyarrow.parquet.read_schema(parts[0]), compression="zstd", use_dictionary=False) as file,
    ):
        for part in parts:
            file.write_table(pyarrow.parquet.read_table(part, use_threads=False, partitioning=None))


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
