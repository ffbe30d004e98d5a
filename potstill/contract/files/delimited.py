"""Tables as text: the cells of CSV and TSV files, row by row, with the line where each row begins.

CSV is that of RFC 4180: a cell in quote marks may hold commas, line ends and quote marks, the last written twice. In TSV a quote
mark is a character like any other, as in IANA's text/tab-separated-values; but spreadsheets quote cells of TSV as they do those
of CSV, so a cell that is quoted from its first to its last character is read as they wrote it. Where both readings give whole
rows, the file is refused.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from potstill.contract.errors import FormatError, count_of

BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
# A cell and what ends it. What is quoted is matched possessively, so a quote mark that nothing closes costs no time.
_CELL = re.compile(r'(?:"((?:[^"]++|"")*+)"|([^\t\n]*?))(\t|\r?\n|\r?\Z)')

Cells = list[str]


def read_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[str, Cells]]:
    """(place, cells) of the header and of every row below it that is not blank; each has as many cells as the header.

    Args:
        path: the file, for errors.
        text: its content.
        delimiter: a comma for CSV, a tab for TSV.
    Raises:
        FormatError: if a row is malformed, has too many or too few cells, repeats the header, or can be read in two ways.
    """
    lines = io.StringIO(text, newline="")
    return _checked(path, _csv(path, lines) if delimiter == "," else _tsv(path, text))


def stream_csv(path: Path, lines: Iterable[str]) -> Iterator[tuple[str, Cells]]:
    """The same of CSV whose lines come one after the other, with their ends; arguments and errors as in :func:`read_rows`."""
    return _checked(path, _csv(path, lines))


# What most often causes rows that are too short, and too long.
_HINTS = ("write an empty cell as nothing between two separators", "put a text that holds a separator in quote marks")


def _checked(path: Path, rows: Iterator[tuple[int, Cells]]) -> Iterator[tuple[str, Cells]]:
    """(place, cells) of the header and of the rows below it; raises FormatError as :func:`read_rows`."""
    header: Cells = []
    for line, cells in rows:
        cells[0] = cells[0].removeprefix(BYTE_ORDER_MARK)  # one in the middle is where a second file was added
        if not header:
            header = cells
            yield "header", cells
        elif len(cells) != len(header):
            hint = _HINTS[len(cells) > len(header)]
            raise FormatError(path, f"line {line}", f"has {count_of(len(cells), 'cell')}, the header {len(header)}; {hint}")
        elif cells == header and len(header) > 1:
            raise FormatError(path, f"line {line}", "repeats the header; remove the line, one header is for the whole file")
        else:
            yield f"line {line}", cells


def _csv(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Cells]]:
    """(line, cells) of each row that is not blank."""
    csv.field_size_limit(2**31 - 1)  # the module's own limit would refuse a text over 128 KiB
    reader, line, n_rows = csv.reader(lines, strict=True), 1, 0
    try:
        for cells in reader:
            if cells:
                yield line, cells
                n_rows += 1
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "; inside a cell in quote marks, a quote mark is written twice" if "expected after" in str(error) else ""
        raise FormatError(path, f"line {line}" if n_rows else "header", f"not valid CSV: {error}{hint}") from None


def _tsv(path: Path, text: str) -> Iterator[tuple[int, Cells]]:
    """(line, cells) of each row that is not blank."""
    start, line, n_cells, cells = 0, 1, 0, Cells()
    for found in _CELL.finditer(text):
        quoted, plain, end = found.groups()
        cells.append(plain if quoted is None else quoted.replace('""', '"'))
        if end == "\t":
            continue
        row = text[start : found.start(3)]
        last = line + row.count("\n")
        n_cells = n_cells or len(cells)
        if last > line and all(one.count("\t") == n_cells - 1 for one in row.split("\n")):
            raise FormatError(path, f"line {line}", _two_readings(last))
        if cells != [""]:
            yield line, cells
        start, line, cells = found.end(), last + 1, Cells()


def _two_readings(last: int) -> str:
    """The problem of a cell that may be one of several lines or the beginning of one of several rows."""
    return (
        f"a quote mark opens a cell that would end on line {last}, or belongs to the text; "
        "for the latter write the cell in quote marks and those inside it twice, or save the file as .jsonl"
    )
