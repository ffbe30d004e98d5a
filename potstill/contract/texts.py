"""Read texts: JSON lines, CSV, TSV, XLSX or Parquet with `text` and optionally `id`, `target`, `gold`, and files of other tools.

The kinds of files are read by `interchange/text_rows.py`, which also knows those of other tools.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import digest
from potstill.contract.interchange import text_rows
from potstill.contract.interchange.annotation import TIED, AnnotatedText
from potstill.contract.interchange.text_rows import TextRow

EMPTY = "empty"  # reason why a row has no answer
_DISPUTED = "with annotators who disagreed (the label of most counts)"
_TIED = "with as many annotators for one label as for another (no label counts)"
_UNSURE = "with answers that may be drafts, as the file does not say (export Argilla's records with flatten=True)"


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One text to classify. `gold` is a label given by a person; it is never mixed with soft labels."""

    text: str
    id: str = ""  # a missing id is the SHA-256 of text and target
    target: str | None = None
    gold: str | None = None  # of a task of several questions: JSON, an answer by question (contract/questions/gold.py)


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


@dataclass
class _Opinions:
    """What all rows of a file say about one text."""

    path: Path
    place: str
    all: AnnotatedText
    is_taken: bool = False  # True: the text has been returned

    def add(self, row: TextRow) -> None:
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


def read_texts(
    path: str | Path,
    *,
    labels: list[str] | None = None,
    target: bool | None = None,
    gold: bool = False,
    rows: Iterable[TextRow] | None = None,
) -> Texts:
    """Read every usable text of a file or folder.

    Rows that are empty, contain a NUL character, or repeat an earlier row are skipped and counted. Where several rows have a gold
    label for the same text and target, whatever their ids, each is one person's: the label of most counts, and a tie is none.

    Args:
        path: a file ending in .jsonl, .jsonl.gz, .csv, .tsv (in UTF-8), .xlsx, .parquet or .json (Label Studio, Argilla), a folder
            of .jsonl, .jsonl.gz, .csv or .parquet files, a `datasets` folder, or `-` and any pipe, for JSON lines or CSV.
        labels: the allowed gold labels; None allows any.
        target: True: every row must have a target; False: none may; None allows both.
        gold: True: return texts with a gold label only, each text once. Ties, and an annotation tool's rows without a label
            (unfinished projects are common), are then skipped and counted; in other files a text without one is an error.
        rows: what stands there, where the path is none that this module can read.
    Raises:
        FormatError: if the file is missing or malformed, has unknown columns, gives one id to two texts, has a gold label
            that is not allowed, a missing or unexpected target, a missing gold label, or no usable text.
    """
    path = Path(path)
    read = _gathered(text_rows.read_file(path) if rows is None else rows, labels, target)
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
        raise none_usable(path, read.skipped, gold)
    return Texts(texts, dict(read.skipped), dict(notes), read.n_further)


def _gathered(rows: Iterable[TextRow], labels: list[str] | None, target: bool | None) -> _Gathered:
    """What rows say, text by text; raises FormatError as :func:`read_texts`."""
    read = _Gathered()
    for row in rows:
        if reason := _unusable(row.text):
            read.skipped[reason] += 1
            continue
        _check_label(row.path, row.place, row.gold, labels)
        _check_target(row, target)
        text, about = _text(row, row.gold), (row.text, row.target)
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
    for row in text_rows.read_file(path):
        text, reason = row_to_answer(row, target)
        if not reason:
            about = (text.text, text.target)
            if by_id.setdefault(text.id, about) != about:
                raise FormatError(row.path, row.place, f"id {text.id!r} already belongs to another text; ids must be unique")
        found.append((text, reason))
    if not found:
        raise none_usable(path)
    return found


def row_to_answer(row: TextRow, target: bool | None) -> tuple[Text, str]:
    """(the text of a row, the reason why there is nothing to classify in it; "" where there is), for :func:`read_rows`.

    Args:
        row: of a file.
        target: as in :func:`read_texts`.
    Raises:
        FormatError: if the target is missing or unexpected.
    """
    reason = "" if row.text.strip() else EMPTY
    if not reason:
        _check_target(row, target)
    return _text(row, None), reason


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


def _check_target(row: TextRow, target: bool | None) -> None:
    """Check that a row has a target if and only if the task asks about one."""
    if target is True and not row.target:
        raise FormatError(
            row.path, f"{row.place}: target", "is missing; the task asks about a target (input.target): give each row one"
        )
    if target is False and row.target:
        raise FormatError(
            row.path,
            f"{row.place}: target",
            "is given, but the task has none (input.target is false); rename or remove it, or change the task",
        )


def _text(row: TextRow, gold: str | None) -> Text:
    """The text of a row, with an id."""
    return Text(row.text, row.id or text_id(row.text, row.target), row.target, gold)


def _unusable(text: str) -> str:
    """Reason why a text cannot be classified; empty if it can."""
    return EMPTY if not text.strip() else "with a NUL character" if "\0" in text else ""


def none_usable(path: Path, skipped: Mapping[str, int] = MappingProxyType({}), gold: bool = False) -> FormatError:
    """The error for a file without usable rows. Args: skipped, rows by reason; gold, whether labels were asked for."""
    n_skipped = sum(skipped.values())
    if gold and n_skipped:
        return FormatError(
            path, "", f"has no text with a gold label (rows: {_counted(skipped)}); annotate some, or leave the file out"
        )
    return FormatError(path, "", f"has no usable text ({_counted(skipped) or 'no rows'}); each row needs a text")


def _counted(counts: Mapping[str, int]) -> str:
    """`2 empty, 1 duplicate`."""
    return ", ".join(f"{count} {what}" for what, count in counts.items())
