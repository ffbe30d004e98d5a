"""A file or a folder of texts of any size, cut into small pieces that are read one after the other and parsed anywhere.

The same input is always cut in the same places, so a piece is known by its number. JSON lines (plain and gzip), CSV and Parquet are
read as they are needed; the other kinds of `text_rows.py` are read as a whole, and then cut.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import arrow, decode, delimited
from potstill.contract.interchange import dataset_folder, text_rows
from potstill.contract.interchange.text_folder import is_streamed, text_files
from potstill.contract.interchange.text_rows import TextRow

N_ROWS = 256  # of a piece, at most
MAX_BYTES = 1 << 20  # of lines of JSON in a piece, unless one line alone is longer


@dataclass(frozen=True)
class TextPiece:
    """Some rows of a file that follow each other, not parsed yet."""

    path: Path
    data: bytes
    first_line: int = 0  # of lines of JSON: the number of the first; 0: they are rows of a table, as `_pack` writes them


class _PackedRow(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A row of a table, or what is wrong with it."""

    place: str
    text: str
    id: str = ""
    target: str | None = None
    problem: str | None = None


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(list[_PackedRow]).decode


def cut(path: Path) -> Iterator[TextPiece]:
    """Cut a file, or the files of a folder in the order of their names, into pieces.

    Args:
        path: a file as :func:`text_rows.read_file` takes it, or .jsonl.gz; or a folder, in which names that begin with a dot or an
            underscore are passed over.
    Raises:
        FormatError: if it is missing, of an unknown kind, or malformed so that no row can be told from the next.
        MissingExtraError: if it is a Parquet file, and pyarrow is missing.
    """
    for file in text_files(path):
        yield from _cut_file(file)


def rows(piece: TextPiece) -> Iterator[TextRow | FormatError]:
    """Parse a piece: its rows in order, and in the place of a malformed one the error that names it."""
    if not piece.first_line:
        for row in _decode(piece.data):
            yield FormatError(piece.path, row.place, row.problem) if row.problem else TextRow(piece.path, *_values(row))
        return
    for place, line in _lines(piece):
        try:
            yield text_rows.json_row(piece.path, place, line)
        except FormatError as error:
            yield error


def _values(row: _PackedRow) -> tuple[str, str, str, str | None]:
    """What a row is made of."""
    return row.place, row.text, row.id, row.target


def _lines(piece: TextPiece) -> list[tuple[str, bytes]]:
    """(place, line) of the lines that are not blank; one that is not UTF-8 stays, and its parser refuses it."""
    try:
        return decode.json_lines(piece.path, piece.data, piece.first_line)
    except FormatError:
        lines = enumerate(piece.data.split(b"\n"), piece.first_line)
        return [(f"line {number}", line) for number, line in lines if line.strip()]


def _cut_file(path: Path) -> Iterator[TextPiece]:
    """The pieces of one file."""
    name = path.name.lower()
    if not is_streamed(path):
        return _packed(path, text_rows.read_file(path))
    if name.endswith(".csv"):
        return _packed(path, _csv_rows(path))
    if name.endswith(".parquet"):
        if dataset_folder.METADATA in arrow.parquet_metadata(path):
            return _packed(path, text_rows.read_file(path))
        return _parquet_pieces(path)
    with _opened(path) as file:
        first = next((line for line in file if line.strip()), b"")
    return _packed(path, text_rows.read_file(path)) if text_rows.is_of_tool(first) else _json_pieces(path)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, through gzip if its name says so; raises FormatError, in the block too."""
    try:
        with cast(IO[bytes], gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(path, "", f"cannot be read: {error}") from error


def _json_pieces(path: Path) -> Iterator[TextPiece]:
    """Lines of JSON as they stand in the file."""
    with _opened(path) as file:
        yield from cut_lines(path, file, 0)


def cut_lines(path: Path, lines: Iterable[bytes], n_before: int) -> Iterator[TextPiece]:
    """Cut lines of JSON into pieces.

    Args:
        path: their file, for errors.
        lines: with their ends.
        n_before: lines of the file before them.
    """
    lines = iter(lines)
    while some := list(_some(lines)):
        yield TextPiece(path, b"".join(some), n_before + 1)
        n_before += len(some)


def _some(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The next lines of a piece."""
    n_bytes = 0
    for line in islice(lines, N_ROWS):
        yield line
        n_bytes += len(line)
        if n_bytes >= MAX_BYTES:
            return


def cut_table(path: Path, columns: dict[str, list[Any]], n_before: int) -> Iterator[TextPiece]:
    """Cut some rows of a table into pieces; raises FormatError for unknown columns.

    Args:
        path: its file, for errors.
        columns: values by name, all of one length.
        n_before: rows of the file before them.
    """
    text_rows.check_columns(path, list(columns))
    rows = enumerate(zip(*columns.values(), strict=True), n_before + 1)
    return _packed(path, (_row_or_error(path, f"row {number}", dict(zip(columns, values, strict=True))) for number, values in rows))


def _packed(path: Path, found: Iterable[TextRow | FormatError]) -> Iterator[TextPiece]:
    """Rows of a table as pieces."""
    packed, n_bytes = [], 0
    for row in found:
        if isinstance(row, FormatError):
            packed.append(_PackedRow(row.place, "", problem=row.problem))
        else:
            packed.append(_PackedRow(row.place, row.text, row.id, row.target))
            n_bytes += len(row.text)
        if len(packed) == N_ROWS or n_bytes >= MAX_BYTES:
            yield TextPiece(path, _encode(packed))
            packed, n_bytes = [], 0
    if packed:
        yield TextPiece(path, _encode(packed))


def _csv_rows(path: Path) -> Iterator[TextRow | FormatError]:
    """The rows of a CSV file, as its lines are read."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        found = delimited.stream_csv(path, file)
        try:
            columns = next(found, ("header", []))[1]
            text_rows.check_columns(path, columns, ",")
            for place, cells in found:
                yield _row_or_error(path, place, dict(zip(columns, cells, strict=True)))
        except UnicodeDecodeError:
            with path.open("rb") as again:  # the line is not known: a block was decoded
                for number, line in enumerate(again, 1):
                    decode.utf8(path, line, number)
            raise


def _parquet_pieces(path: Path) -> Iterator[TextPiece]:
    """The rows of a Parquet file, as its row groups are read."""
    n_before = 0
    for batch in arrow.stream_parquet(path, N_ROWS):
        yield from cut_table(path, batch, n_before)
        n_before += len(next(iter(batch.values()), []))


def _row_or_error(path: Path, place: str, cells: dict[str, object]) -> TextRow | FormatError:
    """A row of a table, or the error that names it."""
    try:
        return text_rows.table_row(path, place, cells)
    except FormatError as error:
        return error
