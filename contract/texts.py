"""Texts: JSON lines, CSV, TSV or Parquet with `text` and optionally `id`, `target`, `gold`."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from contract import decode, digest, parquet
from contract.errors import FormatError

COLUMNS = ("text", "id", "target", "gold")
SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One text to classify. `gold` is a label that a person gave; it never mixes with soft labels."""

    text: str
    id: str = ""  # a missing id is the SHA-256 of text and target
    target: str | None = None
    gold: str | None = None


@dataclass(frozen=True)
class Texts:
    """The usable texts of a file in file order, each id once, and how many rows were passed over, by reason."""

    texts: list[Text]
    skipped: dict[str, int]

    def skipped_line(self) -> str:
        """`skipped 3 of 120 rows: 2 empty, 1 duplicate`, or nothing when no row was skipped."""
        if not self.skipped:
            return ""
        n_skipped = sum(self.skipped.values())
        return f"skipped {n_skipped} of {n_skipped + len(self.texts)} rows: {_reasons(self.skipped)}"


def read_texts(path: Path, *, labels: list[str] | None = None, target: bool | None = None) -> Texts:
    """Every usable text of a file.

    Rows that are empty, hold a NUL character, or repeat an earlier row are skipped and counted.

    Args:
        path: a file ending in .jsonl, .csv, .tsv or .parquet; the first three in UTF-8.
        labels: the allowed gold labels; None allows any.
        target: whether every row must (True) or must not (False) have a target; None allows both.
    Raises:
        FormatError: if the file is missing or malformed, has unknown columns, gives one id to two texts, has a gold label
            that is not allowed, a missing or unexpected target, or holds no usable text.
    """
    seen: dict[str, Text] = {}
    skipped: Counter[str] = Counter()
    for place, found in _rows(path):
        row = msgspec.structs.replace(found, target=found.target or None, gold=found.gold or None)  # empty means absent
        _check(path, place, row, labels, target)
        reason = "empty" if not row.text.strip() else "with a NUL character" if "\0" in row.text else ""
        if not reason:
            text = row if row.id else msgspec.structs.replace(row, id=text_id(row.text, row.target))
            earlier = seen.setdefault(text.id, text)
            if earlier is text:
                continue
            if (earlier.text, earlier.target) != (text.text, text.target):
                raise FormatError(path, place, f"id {text.id!r} already belongs to another text; ids must be unique")
            reason = "duplicate"
        skipped[reason] += 1
    if not seen:
        raise FormatError(path, "", f"holds no usable text ({_reasons(skipped) or 'no rows'}); each row needs a text")
    return Texts(list(seen.values()), dict(skipped))


def text_id(text: str, target: str | None) -> str:
    """SHA-256 of text and target. The NUL between them cannot occur in a text, so no two pairs collide."""
    return digest.of_bytes(f"{text}\0{target or ''}".encode("utf-8", "surrogatepass"))


def write_texts(texts: Iterable[Text]) -> bytes:
    """The texts as JSON lines; absent fields are left out."""
    encoder = msgspec.json.Encoder()
    rows = ({key: value for key, value in msgspec.structs.asdict(text).items() if value} for text in texts)
    return b"".join(encoder.encode(row) + b"\n" for row in rows)


def _reasons(skipped: Mapping[str, int]) -> str:
    """`2 empty, 1 duplicate`."""
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items())


def _check(path: Path, place: str, row: Text, labels: list[str] | None, target: bool | None) -> None:
    """A row's gold and target fit the task."""
    if labels is not None and row.gold is not None and row.gold not in labels:
        raise FormatError(path, f"{place}: gold", f"{row.gold!r} is not a label; allowed: {', '.join(labels)}")
    if target is True and not row.target:
        raise FormatError(path, f"{place}: target", "is missing; the task asks about a target (input.target)")
    if target is False and row.target:
        raise FormatError(path, f"{place}: target", "is given, but the task has none (input.target is false)")


def _rows(path: Path) -> Iterator[tuple[str, Text]]:
    """(place, row) for every row, as the suffix says."""
    match path.suffix:
        case ".jsonl":
            return _json_rows(path)
        case ".csv" | ".tsv":
            return _csv_rows(path, "," if path.suffix == ".csv" else "\t")
        case ".parquet":
            return _parquet_rows(path)
    raise FormatError(path, "", f"unknown kind {path.suffix!r}; allowed: {', '.join(SUFFIXES)}")


def _json_rows(path: Path) -> Iterator[tuple[str, Text]]:
    """One JSON object a line; blank lines are allowed."""
    data = decode.read_bytes(path)
    decode.utf8(path, data)  # one clear message for the first wrong byte
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            yield f"line {number}", decode.json(path, line, Text, f"line {number}")


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[str, Text]]:
    """Rows under a header line; an empty id, target or gold cell is an absent one."""
    csv.field_size_limit(2**31 - 1)  # the module's own limit would refuse a text over 128 KiB
    reader = csv.DictReader(io.StringIO(decode.utf8(path, decode.read_bytes(path)), newline=""), delimiter=delimiter, strict=True)
    try:
        columns = list(reader.fieldnames or [])
    except csv.Error as error:
        raise FormatError(path, "header", f"not valid CSV: {error}") from None
    _check_columns(path, columns)
    while True:
        place = f"line {reader.line_num + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise FormatError(path, place, f"not valid CSV: {error}") from None
        if None in row or None in row.values():
            raise FormatError(path, place, f"has another number of cells than the header ({len(columns)})")
        yield place, _text(path, place, row)


def _parquet_rows(path: Path) -> Iterator[tuple[str, Text]]:
    """Rows of a Parquet table."""
    rows = parquet.read(path)
    _check_columns(path, list(rows[0]) if rows else list(COLUMNS))
    for number, row in enumerate(rows, 1):
        yield f"row {number}", _text(path, f"row {number}", row)


def _text(path: Path, place: str, row: dict[str, Any]) -> Text:
    """The row without its empty cells, as a text."""
    return decode.convert(path, {key: value for key, value in row.items() if key == "text" or value not in (None, "")}, Text, place)


def _check_columns(path: Path, columns: list[str]) -> None:
    """A header holds `text` and nothing unknown."""
    if "text" not in columns:
        raise FormatError(path, "header", f"has no column 'text'; found: {', '.join(columns) or 'nothing'}")
    for i, column in enumerate(columns):
        if column in columns[:i]:
            raise FormatError(path, "header", f"repeats column {column!r}; name each once")
        if column not in COLUMNS:
            raise FormatError(path, "header", f"unknown column {column!r}; allowed: {', '.join(COLUMNS)}")
