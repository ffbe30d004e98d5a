"""The rows of files of texts, whatever program wrote them: one reader for each kind of file, found by its suffix.

The other tools are read by a file each in this room. What a row means, and which rows are usable, is in `contract/texts.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import arrow, decode, delimited, spreadsheet
from potstill.contract.interchange import argilla, dataset_folder, label_studio
from potstill.contract.interchange.annotation import AnnotatedText
from potstill.contract.interchange.text_folder import is_streamed, text_files

COLUMNS = ("text", "id", "target", "gold")
GOLD_OF = "gold."  # begins a column with the gold answers to one of several questions: `gold.stance`
MARKS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
STDIN = ("-", "/dev/stdin")
SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".tsv", ".xlsx", ".parquet", ".json")


class RawText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text as other programs write it: an id or a label may be a number, an empty text null."""

    text: str | None
    id: str | int | None = None
    target: str | None = None
    gold: str | int | dict[str, Any] | None = None


class TextRow(msgspec.Struct, frozen=True):
    """A row of a file, and the labels that people gave its text; what is empty is absent."""

    path: Path
    place: str  # in the file, as errors name it
    text: str
    id: str = ""
    target: str | None = None
    gold: str | None = None
    answers: tuple[str, ...] = ()
    otherwise: str = ""  # reason why a row of an annotation tool has no label at all
    unsure: bool = False


def read_file(path: Path) -> Iterator[TextRow]:
    """Read every row of a file or folder, by its suffix; raises FormatError if there is none or it is malformed."""
    if str(path) in STDIN or path.is_fifo():
        return _piped_rows(path)
    if path.is_dir():
        if any(is_streamed(file) and file.suffix != ".parquet" for file in path.rglob("*")):
            return chain.from_iterable(map(read_file, text_files(path)))
        return (table_row(file, place, row) for file, place, row in dataset_folder.read(path))
    if path.name.lower().endswith(".jsonl.gz"):
        return _json_rows(path, decode.unzipped(path))
    match path.suffix.lower():
        case ".jsonl":
            return _json_rows(path, decode.read_bytes(path))
        case ".json":
            return _json_list(path)
        case ".csv" | ".tsv":
            return _table_rows(path, decode.read_bytes(path), "," if path.suffix.lower() == ".csv" else "\t")
        case ".xlsx":
            return _sheet_rows(path)
        case ".parquet":
            return _parquet_rows(path)
    if not path.exists():
        raise FormatError(path, "", "no such file or folder; check the path")
    raise FormatError(
        path, "", f"unknown kind {path.suffix!r}; allowed: {', '.join(SUFFIXES)}, or a folder of such files or of datasets"
    )


def _piped_rows(path: Path) -> Iterator[TextRow]:
    """JSON lines or CSV from standard input or a named pipe, which have no suffix to tell."""
    data = decode.read_bytes(Path(STDIN[1]) if str(path) == STDIN[0] else path)
    is_json = data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    return _json_rows(path, data) if is_json else _table_rows(path, data, ",")


def _json_rows(path: Path, data: bytes) -> Iterator[TextRow]:
    """One JSON object per line; blank lines are allowed. Lines of an annotation tool are recognized by the first one."""
    lines = decode.json_lines(path, data)
    if lines and (reader := _tool(decode.json(path, lines[0][1], object, lines[0][0]))):
        yield from _annotated(path, reader, [(place, decode.json(path, line, object, place)) for place, line in lines])
        return
    for place, line in lines:
        yield json_row(path, place, line)


def json_row(path: Path, place: str, line: bytes) -> TextRow:
    """The row that a line of JSON is; raises FormatError if it is malformed."""
    return _plain_row(path, place, decode.json(path, line, RawText, place))


def is_of_tool(line: bytes) -> bool:
    """Tell whether a file that begins with this line of JSON was written by an annotation tool."""
    try:
        return _tool(msgspec.json.decode(line)) is not None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _json_list(path: Path) -> Iterator[TextRow]:
    """A list of Label Studio tasks or Argilla records, recognized by the first one."""
    data = decode.read_bytes(path)
    decode.utf8(path, data)
    rows = decode.json(path, data.removeprefix(b"\xef\xbb\xbf"), object)
    reader = _tool(rows[0]) if isinstance(rows, list) and rows else None
    if reader is None or not isinstance(rows, list):
        what = "is neither Label Studio's export JSON (a list of tasks with 'data') nor Argilla's records (a list with 'fields')"
        raise FormatError(
            path, "", f"{what}; write texts of your own as .jsonl, and export from Label Studio as JSON, not JSON-MIN"
        )
    return _annotated(path, reader, [(f"[{n}]", row) for n, row in enumerate(rows)])


_Reader = Callable[[Path, list[tuple[str, Any]]], Iterator[tuple[str, AnnotatedText]]]


def _tool(row: Any) -> _Reader | None:
    """The reader for a file whose first row looks like this; None for our own texts."""
    return label_studio.read if label_studio.is_task(row) else argilla.read if argilla.is_record(row) else None


def _annotated(path: Path, reader: _Reader, rows: list[tuple[str, Any]]) -> Iterator[TextRow]:
    """Convert the rows of an annotation tool to texts with the labels that people gave them."""
    for place, found in reader(path, rows):
        answers = found.answers, found.otherwise, found.unsure
        yield TextRow(path, place, found.text, found.id, found.target or None, found.gold or None, *answers)


def _table_rows(path: Path, data: bytes, delimiter: str) -> Iterator[TextRow]:
    """Rows below a header line; an empty id, target or gold cell means absent."""
    rows = delimited.read_rows(path, decode.utf8(path, data), delimiter)
    columns = next(rows, ("header", []))[1]
    check_columns(path, columns, delimiter)
    for place, cells in rows:
        yield table_row(path, place, dict(zip(columns, cells, strict=True)))


def _sheet_rows(path: Path) -> Iterator[TextRow]:
    """Rows of a spreadsheet's first sheet; whatever a cell of a text or a target holds is read as text."""
    rows = spreadsheet.read_rows(path)
    columns = [str(name) for name in next(rows, ("header", []))[1]]
    check_columns(path, columns)
    for place, cells in rows:
        row: dict[str, Any] = dict(zip(columns, cells, strict=True))
        row |= {name: str(row[name]) for name in row if not name.startswith(GOLD_OF) and not isinstance(row[name], str | None)}
        yield table_row(path, place, row)


def _parquet_rows(path: Path) -> Iterator[TextRow]:
    """Rows of a Parquet table; one written by the `datasets` library may have class labels."""
    rows, metadata = arrow.read_parquet_with_metadata(path)
    if dataset_folder.METADATA in metadata:
        for file, place, row in dataset_folder.texts(path, rows, metadata):
            yield table_row(file, place, row)
        return
    check_columns(path, list(rows[0]) if rows else list(COLUMNS))
    for number, row in enumerate(rows, 1):
        yield table_row(path, f"row {number}", row)


def table_row(path: Path, place: str, row: dict[str, Any]) -> TextRow:
    """A row of our own columns; raises FormatError for a value of another type."""
    given = {column.removeprefix(GOLD_OF): value for column, value in row.items() if column.startswith(GOLD_OF)}
    if given:
        row = {column: value for column, value in row.items() if not column.startswith(GOLD_OF)}
        answers = {name: value for name, value in given.items() if value not in (None, "")}
        row["gold"] = answers or None
    return _plain_row(path, place, decode.convert(path, row, RawText, place))


def _several(answers: dict[str, Any]) -> str:
    """The answers to several questions as JSON, equal answers with equal letters."""
    return msgspec.json.encode(answers, order="sorted").decode()


def _plain_row(path: Path, place: str, raw: RawText) -> TextRow:
    """The row that a raw text is, with one person's label at most."""
    gold = None if raw.gold in (None, "", {}) else _several(raw.gold) if isinstance(raw.gold, dict) else str(raw.gold)
    name = "" if raw.id is None else str(raw.id)
    return TextRow(path, place, raw.text or "", name, raw.target or None, gold or None, (gold,) if gold else ())


def check_columns(path: Path, columns: list[str], delimiter: str = "") -> None:
    """Check that a header has `text` and no unknown column. Args: delimiter, of a table that is text."""
    if "text" not in columns:
        other = next((mark for mark in ",;\t|" if mark != delimiter and len(columns) == 1 and "text" in columns[0].split(mark)), "")
        hint = (
            f"; its cells are separated by {MARKS[other]}, in a {path.suffix} they must be by {MARKS[delimiter]}"
            if delimiter and other
            else ""
        )
        raise FormatError(path, "header", f"has no column 'text'; found: {', '.join(columns) or 'nothing'}{hint}")
    for i, column in enumerate(columns):
        if column in columns[:i]:
            raise FormatError(path, "header", f"repeats column {column!r}; name each once")
        if column not in COLUMNS and not (column.startswith(GOLD_OF) and "gold" not in columns):
            raise FormatError(path, "header", f"unknown column {column!r}; allowed: {', '.join(COLUMNS)}")
