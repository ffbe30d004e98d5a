"""Arrow streams, the files of rows inside a `datasets` folder. pyarrow is imported only when one is read or written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from potstill.contract.errors import FormatError, MissingExtraError
from potstill.contract.files import decode


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of an Arrow IPC stream.

    Raises:
        FormatError: if the file is missing or damaged.
        MissingExtraError: without pyarrow.
    """
    data = decode.read_bytes(path)
    pyarrow = _pyarrow()
    try:
        rows: list[dict[str, Any]] = pyarrow.ipc.open_stream(data).read_all().to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FormatError(path, "", f"not a readable Arrow stream: {error}") from error
    return rows


def encode(columns: dict[str, list[Any]], types: dict[str, str], metadata: dict[str, str]) -> bytes:
    """The columns as the bytes of an Arrow IPC stream.

    Args:
        columns: values by name, all of one length; None is a missing value.
        types: Arrow's name of each column's type: string, int64, float64.
        metadata: of the schema.
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


def _pyarrow() -> Any:
    """The module, or one line that says how to get it."""
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError("pyarrow", "label") from None
    return pyarrow
