"""Read texts: JSON lines, CSV, TSV, XLSX or Parquet with `text` and optionally `id`, `target`, `gold`, and files of other tools.

The other tools are read by a file each in `interchange/`: `datasets` folders, Label Studio tasks, Argilla records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import arrow, decode, delimited, digest, spreadsheet
from potstill.contract.interchange import argilla, dataset_folder, label_studio
from potstill.contract.interchange.annotation import TIED, AnnotatedText

COLUMNS = ("text", "id", "target", "gold")
GOLD_OF = "gold."  # begins a column with the gold answers to one of several questions: `gold.stance`
EMPTY = "empty"  # reason why a row has no answer
MARKS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_STDIN = ("-", "/dev/stdin")
SUFFIXES = (".jsonl", ".csv", ".tsv", ".xlsx", ".parquet", ".json")
_DISPUTED = "with annotators who disagreed (the label of most counts)"
_TIED = "with as many annotators for one label as for another (no label counts)"
_UNSURE = "with answers that may be drafts, as the file does not say (export Argilla's records with flatten=True)"


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One text to classify. `gold` is a label given by a person; it is never mixed with soft labels."""

    text: str
    id: str = ""  # a missing id is the SHA-256 of text and target
    target: str | None = None
    gold: str | None = None  # of a task of several questions: JSON, an answer by question (contract/questions/gold.py)


class _RawText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same as other programs write it: an id or a label may be a number, an empty text null."""

    text: str | None
    id: str | int | None = None
    target: str | None = None
    gold: str | int | dict[str, Any] | None = None


@dataclass(frozen=True)
class Texts:
    """The usable texts of a file, in file order and each id once, and the number of skipped rows by reason."""

    texts: list[Text]
    skipped: dict[str, int]
    notes: dict[str, int] = field(default_factory=dict)  # remarks on gold labels, each with its number of texts
    n_further: int = 0  # rows with one more person's label of a text that is there already

    def skipped_line(self) -> str:
        """`skipped 3 of 120 rows: 2 empty, 1 duplicate; of 117 texts, 4 ...`; empty if there is nothing to report."""
        n_skipped = sum(self.skipped.values())
        n_rows = n_skipped + self.n_further + len(self.texts)
        parts = [f"skipped {n_skipped} of {n_rows} rows: {_counted(self.skipped)}"] if n_skipped else []
        if self.n_further:
            parts.append(f"{self.n_further} of {n_rows} rows are further labels of a text")
        if self.notes:
            parts.append(f"of {len(self.texts)} texts, {_counted(self.notes)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class _Row:
    """A row of a file, and the labels that people gave its text."""

    path: Path
    place: str
    text: Text
    answers: tuple[str, ...] = ()
    otherwise: str = ""  # reason why a row of an annotation tool has no label at all
    unsure: bool = False


@dataclass
class _Opinions:
    """What all rows of a file say about one text."""

    path: Path
    place: str
    all: AnnotatedText
    is_taken: bool = False  # True: the text has been returned

    def add(self, row: _Row) -> None:
        """Take a further row's labels in."""
        answers = (*self.all.answers, *row.answers)
        self.all = replace(self.all, answers=answers, unsure=self.all.unsure or row.unsure)

    def note(self) -> str:
        """A remark on how the gold label came about; empty if there is nothing to say."""
        if self.all.answers and self.all.unsure:
            return _UNSURE
        return _DISPUTED if self.all.disputed else _TIED if self.all.lacks == TIED else ""


@dataclass
class _Gathered:
    """The rows of a file, put together by text."""

    texts: dict[str, Text] = field(default_factory=dict)  # by id, in file order
    opinions: dict[tuple[str, str | None], _Opinions] = field(default_factory=dict)  # by text and target
    skipped: Counter[str] = field(default_factory=Counter)
    n_further: int = 0  # rows with one more label of a text


def read_texts(path: str | Path, *, labels: list[str] | None = None, target: bool | None = None, gold: bool = False) -> Texts:
    """Read every usable text of a file or folder.

    Rows that are empty, contain a NUL character, or repeat an earlier row are skipped and counted. Where several rows have a gold
    label for the same text and target, whatever their ids, each is one person's: the label of most counts, and a tie is none.

    Args:
        path: a file ending in .jsonl, .csv, .tsv (in UTF-8), .xlsx, .parquet or .json (Label Studio, Argilla), a `datasets`
            folder, or `-` and any pipe, for JSON lines or CSV.
        labels: the allowed gold labels; None allows any.
        target: True: every row must have a target; False: none may; None allows both.
        gold: True: return texts with a gold label only, each text once. Ties, and an annotation tool's rows without a label
            (unfinished projects are common), are then skipped and counted; in other files a text without one is an error.
    Raises:
        FormatError: if the file is missing or malformed, has unknown columns, gives one id to two texts, has a gold label
            that is not allowed, a missing or unexpected target, a missing gold label, or no usable text.
    """
    path = Path(path)
    read = _gathered(path, labels, target)
    texts: list[Text] = []
    notes: Counter[str] = Counter()
    for text in read.texts.values():
        said = read.opinions[text.text, text.target]
        _check_label(said.path, said.place, said.all.gold, labels)
        if gold and said.is_taken:
            read.n_further += 1
            continue
        said.is_taken = True
        if gold and said.all.gold is None:
            if not said.all.lacks:
                problem = "has no gold label; add one, or move it to the texts without gold labels"
                raise FormatError(path, f"text {text.id!r}", problem)
            read.skipped[said.all.lacks] += 1
            continue
        texts.append(msgspec.structs.replace(text, gold=said.all.gold))
        notes.update(filter(None, [said.note()]))
    if not texts:
        raise _none_usable(path, read.skipped, gold)
    return Texts(texts, dict(read.skipped), dict(notes), read.n_further)


def _gathered(path: Path, labels: list[str] | None, target: bool | None) -> _Gathered:
    """What the rows of a file say, text by text; raises FormatError as :func:`read_texts`."""
    read = _Gathered()
    for row in _rows(path):
        if reason := _unusable(row.text.text):
            read.skipped[reason] += 1
            continue
        _check_label(row.path, row.place, row.text.gold, labels)
        _check_target(row, target)
        text, about = row.text, (row.text.text, row.text.target)
        earlier = read.texts.setdefault(text.id, text)
        if (earlier.text, earlier.target) != about:
            raise FormatError(row.path, row.place, f"id {text.id!r} already belongs to another text; ids must be unique")
        if about in read.opinions:
            read.opinions[about].add(row)
        else:
            said = AnnotatedText(text.text, answers=row.answers, otherwise=row.otherwise, unsure=row.unsure)
            read.opinions[about] = _Opinions(row.path, row.place, said)
        if earlier is not text:
            read.n_further += bool(row.answers)
            read.skipped.update([] if row.answers else ["duplicate"])
    return read


def read_rows(path: str | Path, *, target: bool | None = None) -> list[tuple[Text, str]]:
    """Every row of a file or folder, in order, with the reason why there is nothing to classify in it; "" where there is.

    For answers that are matched to rows by their place: no row is left out, be it empty or a duplicate. Gold labels are left out.

    Args:
        path, target: as in :func:`read_texts`.
    Raises:
        FormatError: as :func:`read_texts`, but for gold labels.
    """
    path = Path(path)
    found: list[tuple[Text, str]] = []
    by_id: dict[str, tuple[str, str | None]] = {}
    for row in _rows(path):
        reason = "" if row.text.text.strip() else EMPTY
        if not reason:
            _check_target(row, target)
            about = (row.text.text, row.text.target)
            if by_id.setdefault(row.text.id, about) != about:
                raise FormatError(row.path, row.place, f"id {row.text.id!r} already belongs to another text; ids must be unique")
        found.append((msgspec.structs.replace(row.text, gold=None), reason))
    if not found:
        raise _none_usable(path, Counter(), False)
    return found


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


def _check_label(path: Path, place: str, gold: str | None, labels: list[str] | None) -> None:
    """Check that a gold label is one of the task's."""
    if labels is not None and gold is not None and gold not in labels:
        raise FormatError(path, f"{place}: gold", f"{gold!r} is not a label; allowed: {', '.join(labels)}")


def _check_target(row: _Row, target: bool | None) -> None:
    """Check that a row has a target if and only if the task asks about one."""
    if target is True and not row.text.target:
        raise FormatError(row.path, f"{row.place}: target", "is missing; the task asks about a target (input.target)")
    if target is False and row.text.target:
        raise FormatError(row.path, f"{row.place}: target", "is given, but the task has none (input.target is false)")


def _unusable(text: str) -> str:
    """Reason why a text cannot be classified; empty if it can."""
    return EMPTY if not text.strip() else "with a NUL character" if "\0" in text else ""


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
    if str(path) in _STDIN or path.is_fifo():
        return _piped_rows(path)
    if path.is_dir():
        return (_own(file, place, row) for file, place, row in dataset_folder.read(path))
    match path.suffix.lower():
        case ".jsonl":
            return _json_lines(path, decode.read_bytes(path))
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
    raise FormatError(path, "", f"unknown kind {path.suffix!r}; allowed: {', '.join(SUFFIXES)}, or a datasets folder")


def _piped_rows(path: Path) -> Iterator[_Row]:
    """JSON lines or CSV from standard input or a named pipe, which have no suffix to tell."""
    data = decode.read_bytes(Path(_STDIN[1]) if str(path) == _STDIN[0] else path)
    is_json = data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    return _json_lines(path, data) if is_json else _table_rows(path, data, ",")


def _json_lines(path: Path, data: bytes) -> Iterator[_Row]:
    """One JSON object per line; blank lines are allowed. Lines of an annotation tool are recognized by the first one."""
    lines = decode.json_lines(path, data)
    if lines and (reader := _tool(decode.json(path, lines[0][1], object, lines[0][0]))):
        yield from _annotated(path, reader, [(place, decode.json(path, line, object, place)) for place, line in lines])
        return
    for place, line in lines:
        yield _plain(path, place, decode.json(path, line, _RawText, place))


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
    """Convert the rows of an annotation tool to texts with the labels that people gave them."""
    for place, found in reader(path, rows):
        yield _Row(path, place, _text(found.text, found.id, found.target, found.gold), found.answers, found.otherwise, found.unsure)


def _table_rows(path: Path, data: bytes, delimiter: str) -> Iterator[_Row]:
    """Rows below a header line; an empty id, target or gold cell means absent."""
    rows = delimited.read_rows(path, decode.utf8(path, data), delimiter)
    columns = next(rows, ("header", []))[1]
    _check_columns(path, columns, delimiter)
    for place, cells in rows:
        yield _own(path, place, dict(zip(columns, cells, strict=True)))


def _sheet_rows(path: Path) -> Iterator[_Row]:
    """Rows of a spreadsheet's first sheet; whatever a cell of a text or a target holds is read as text."""
    rows = spreadsheet.read_rows(path)
    columns = [str(name) for name in next(rows, ("header", []))[1]]
    _check_columns(path, columns)
    for place, cells in rows:
        row: dict[str, Any] = dict(zip(columns, cells, strict=True))
        row |= {name: str(row[name]) for name in row if not name.startswith(GOLD_OF) and not isinstance(row[name], str | None)}
        yield _own(path, place, row)


def _parquet_rows(path: Path) -> Iterator[_Row]:
    """Rows of a Parquet table; one written by the `datasets` library may have class labels."""
    rows, metadata = arrow.read_parquet_with_metadata(path)
    if dataset_folder.METADATA in metadata:
        for file, place, row in dataset_folder.texts(path, rows, metadata):
            yield _own(file, place, row)
        return
    _check_columns(path, list(rows[0]) if rows else list(COLUMNS))
    for number, row in enumerate(rows, 1):
        yield _own(path, f"row {number}", row)


def _own(path: Path, place: str, row: dict[str, Any]) -> _Row:
    """A row of our own columns; raises FormatError for a value of another type."""
    given = {column.removeprefix(GOLD_OF): value for column, value in row.items() if column.startswith(GOLD_OF)}
    if given:
        row = {column: value for column, value in row.items() if not column.startswith(GOLD_OF)}
        answers = {name: value for name, value in given.items() if value not in (None, "")}
        row["gold"] = answers or None
    return _plain(path, place, decode.convert(path, row, _RawText, place))


def _several(answers: dict[str, Any]) -> str:
    """The answers to several questions as JSON, equal answers with equal letters."""
    return msgspec.json.encode(answers, order="sorted").decode()


def _plain(path: Path, place: str, raw: _RawText) -> _Row:
    """The row that a raw text is, with one person's label at most."""
    gold = None if raw.gold in (None, "", {}) else _several(raw.gold) if isinstance(raw.gold, dict) else str(raw.gold)
    name = "" if raw.id is None else str(raw.id)
    return _Row(path, place, _text(raw.text or "", name, raw.target, gold), (gold,) if gold else ())


def _text(text: str, name: str, target: str | None, gold: str | None) -> Text:
    """A text with an id; what is empty is absent."""
    return Text(text, name or text_id(text, target or None), target or None, gold or None)


def _check_columns(path: Path, columns: list[str], delimiter: str = "") -> None:
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
