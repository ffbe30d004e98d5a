"""Read texts: JSON lines, CSV, TSV or Parquet with `text` and optionally `id`, `target`, `gold`, and the files of other tools.

The other tools are read by a file each in `interchange/`: `datasets` folders, Label Studio tasks, Argilla records.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import arrow, decode, digest
from potstill.contract.interchange import argilla, dataset_folder, label_studio
from potstill.contract.interchange.annotation import AnnotatedText

COLUMNS = ("text", "id", "target", "gold")
SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet", ".json")
_DISPUTED = "with annotators who disagreed (the label of most counts)"
_UNSURE = "with answers that may be drafts, as the file does not say (export Argilla's records with flatten=True)"


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One text to classify. `gold` is a label given by a person; it is never mixed with soft labels."""

    text: str
    id: str = ""  # a missing id is the SHA-256 of text and target
    target: str | None = None
    gold: str | None = None


@dataclass(frozen=True)
class Texts:
    """The usable texts of a file, in file order and each id once, and the number of skipped rows by reason."""

    texts: list[Text]
    skipped: dict[str, int]
    notes: dict[str, int] = field(default_factory=dict)  # remarks on gold labels, each with its number of texts

    def skipped_line(self) -> str:
        """`skipped 3 of 120 rows: 2 empty, 1 duplicate; of 117 texts, 4 ...`; empty if there is nothing to report."""
        n_skipped = sum(self.skipped.values())
        parts = [f"skipped {n_skipped} of {n_skipped + len(self.texts)} rows: {_counted(self.skipped)}"] if n_skipped else []
        if self.notes:
            parts.append(f"of {len(self.texts)} texts, {_counted(self.notes)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class _Row:
    """A row of a file."""

    path: Path
    place: str
    text: Text
    lacks: str = ""  # reason why a row of an annotation tool has no gold label
    note: str = ""


def read_texts(path: str | Path, *, labels: list[str] | None = None, target: bool | None = None, gold: bool = False) -> Texts:
    """Read every usable text of a file or folder.

    Rows that are empty, contain a NUL character, or repeat an earlier row are skipped and counted.

    Args:
        path: a file ending in .jsonl, .csv, .tsv (in UTF-8), .parquet or .json (Label Studio, Argilla), or a `datasets` folder.
        labels: the allowed gold labels; None allows any.
        target: True: every row must have a target; False: none may; None allows both.
        gold: True: return texts with a gold label only. An annotation tool's rows without one are then skipped and counted
            (unfinished projects are common); in other files they are an error.
    Raises:
        FormatError: if the file is missing or malformed, has unknown columns, gives one id to two texts, has a gold label
            that is not allowed, a missing or unexpected target, a missing gold label, or no usable text.
    """
    path = Path(path)
    seen: dict[str, Text] = {}
    skipped: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    for found in _rows(path):
        # empty means absent
        row = msgspec.structs.replace(found.text, target=found.text.target or None, gold=found.text.gold or None)
        _check(found.path, found.place, row, labels, target)
        reason = _unusable(row.text) or (found.lacks if gold else "")
        if not reason:
            text = row if row.id else msgspec.structs.replace(row, id=text_id(row.text, row.target))
            earlier = seen.setdefault(text.id, text)
            if earlier is text:
                notes.update([found.note] if found.note else [])
                continue
            if (earlier.text, earlier.target) != (text.text, text.target):
                raise FormatError(found.path, found.place, f"id {text.id!r} already belongs to another text; ids must be unique")
            reason = "duplicate"
        skipped[reason] += 1
    if not seen:
        raise _none_usable(path, skipped, gold)
    if gold and (without := next((text.id for text in seen.values() if text.gold is None), None)) is not None:
        raise FormatError(path, f"text {without!r}", "has no gold label; add one, or move it to the texts without gold labels")
    return Texts(list(seen.values()), dict(skipped), dict(notes))


def texts_and_targets(texts: Sequence[Text]) -> tuple[list[str], list[str] | None]:
    """(the texts, their targets) as two lists of one length, the form a classifier takes; None if no text has a target."""
    targets = [text.target or "" for text in texts]
    return [text.text for text in texts], targets if any(targets) else None


def text_id(text: str, target: str | None) -> str:
    """SHA-256 of text and target. They are joined by NUL, which no text contains, so no two pairs collide."""
    return digest.of_bytes(f"{text}\0{target or ''}".encode("utf-8", "surrogatepass"))


def write_texts(texts: Iterable[Text]) -> bytes:
    """Encode texts as JSON lines, without absent fields."""
    encoder = msgspec.json.Encoder()
    rows = ({key: value for key, value in msgspec.structs.asdict(text).items() if value} for text in texts)
    return b"".join(encoder.encode(row) + b"\n" for row in rows)


def _check(path: Path, place: str, row: Text, labels: list[str] | None, target: bool | None) -> None:
    """Check that a row's gold label and target fit the task."""
    if labels is not None and row.gold is not None and row.gold not in labels:
        raise FormatError(path, f"{place}: gold", f"{row.gold!r} is not a label; allowed: {', '.join(labels)}")
    if target is True and not row.target:
        raise FormatError(path, f"{place}: target", "is missing; the task asks about a target (input.target)")
    if target is False and row.target:
        raise FormatError(path, f"{place}: target", "is given, but the task has none (input.target is false)")


def _unusable(text: str) -> str:
    """Reason why a text cannot be classified; empty if it can."""
    return "empty" if not text.strip() else "with a NUL character" if "\0" in text else ""


def _none_usable(path: Path, skipped: Counter[str], gold: bool) -> FormatError:
    """The error for a file without usable rows."""
    n_skipped = sum(skipped.values())
    if gold and n_skipped:
        return FormatError(
            path, "", f"has no text with a gold label (rows: {_counted(skipped)}); annotate some, or leave the file out"
        )
    return FormatError(path, "", f"has no usable text ({_counted(skipped) or 'no rows'}); each row needs a text")


def _counted(counts: Mapping[str, int]) -> str:
    """`2 empty, 1 duplicate`."""
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def _rows(path: Path) -> Iterator[_Row]:
    """Read every row, by the file's suffix."""
    if path.is_dir():
        return (_Row(file, place, _text(file, place, row)) for file, place, row in dataset_folder.read(path))
    match path.suffix:
        case ".jsonl":
            return _json_lines(path)
        case ".json":
            return _json_list(path)
        case ".csv" | ".tsv":
            return _csv_rows(path, "," if path.suffix == ".csv" else "\t")
        case ".parquet":
            return _parquet_rows(path)
    if not path.exists():
        raise FormatError(path, "", "no such file or folder; check the path")
    raise FormatError(path, "", f"unknown kind {path.suffix!r}; allowed: {', '.join(SUFFIXES)}, or a datasets folder")


def _json_lines(path: Path) -> Iterator[_Row]:
    """One JSON object per line; blank lines are allowed. Lines of an annotation tool are recognized by the first one."""
    data = decode.read_bytes(path)
    decode.utf8(path, data)  # one clear message for the first wrong byte
    lines = [(f"line {n}", line) for n, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1) if line.strip()]
    if lines and (reader := _tool(decode.json(path, lines[0][1], object, lines[0][0]))):
        yield from _annotated(path, reader, [(place, decode.json(path, line, object, place)) for place, line in lines])
        return
    for place, line in lines:
        yield _Row(path, place, decode.json(path, line, Text, place))


def _json_list(path: Path) -> Iterator[_Row]:
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


def _annotated(path: Path, reader: _Reader, rows: list[tuple[str, Any]]) -> Iterator[_Row]:
    """Convert the rows of an annotation tool to texts with gold labels."""
    for place, found in reader(path, rows):
        note = _UNSURE if found.unsure else _DISPUTED if found.disputed else ""
        yield _Row(path, place, Text(found.text, found.id, found.target, found.gold), found.lacks, note)


def _csv_rows(path: Path, delimiter: str) -> Iterator[_Row]:
    """Rows below a header line; an empty id, target or gold cell means absent."""
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
            raise FormatError(path, place, f"does not have as many cells as the header ({len(columns)})")
        yield _Row(path, place, _text(path, place, row))


def _parquet_rows(path: Path) -> Iterator[_Row]:
    """Rows of a Parquet table; one written by the `datasets` library may have class labels."""
    rows, metadata = arrow.read_parquet_with_metadata(path)
    if dataset_folder.METADATA in metadata:
        for file, place, row in dataset_folder.texts(path, rows, metadata):
            yield _Row(file, place, _text(file, place, row))
        return
    _check_columns(path, list(rows[0]) if rows else list(COLUMNS))
    for number, row in enumerate(rows, 1):
        yield _Row(path, f"row {number}", _text(path, f"row {number}", row))


def _text(path: Path, place: str, row: dict[str, Any]) -> Text:
    """Convert a row to a text, without its empty cells."""
    return decode.convert(path, {key: value for key, value in row.items() if key == "text" or value not in (None, "")}, Text, place)


def _check_columns(path: Path, columns: list[str]) -> None:
    """Check that a header has `text` and no unknown column."""
    if "text" not in columns:
        raise FormatError(path, "header", f"has no column 'text'; found: {', '.join(columns) or 'nothing'}")
    for i, column in enumerate(columns):
        if column in columns[:i]:
            raise FormatError(path, "header", f"repeats column {column!r}; name each once")
        if column not in COLUMNS:
            raise FormatError(path, "header", f"unknown column {column!r}; allowed: {', '.join(COLUMNS)}")
