"""Spreadsheets (.xlsx): the first sheet as rows of cells, and rows of cells as a sheet. openpyxl is imported on first use.

What is read is what was saved: a formula is never evaluated, its last value counts. A file is unpacked once beforehand, so that
one that grows beyond `MAX_BYTES`, or defines entities of its own, is refused before it is parsed. What is written never runs: a
text that begins like a formula is a text.
"""

from __future__ import annotations

import io
import itertools
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from potstill.contract.errors import FormatError, MissingExtraError
from potstill.contract.files import decode

Cell = str | int | float | bool | None
MAX_BYTES = 2**28  # of all parts, unpacked; a million short texts are less
MAX_PARTS = 10_000  # files in the archive
MAX_ROWS, MAX_COLUMNS = 2**20, 1_000  # of a sheet; as many rows as the programs themselves allow
MAX_CHARS = 32_767  # of a cell, in the programs themselves
_OLE = b"\xd0\xcf\x11\xe0"  # begins an old .xls, and an .xlsx with a password
_PIECE = 1 << 20
_DOCTYPES = (b"<!DOCTYPE", "<!DOCTYPE".encode("utf-16-le"), "<!DOCTYPE".encode("utf-16-be"))
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # has no place in XML 1.0
# What zipfile, the XML parsers (SyntaxError) and openpyxl raise over damaged files.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, SyntaxError, EOFError, KeyError, IndexError, ValueError, TypeError, AttributeError),
    *(OverflowError, NotImplementedError, RuntimeError),
)


def read_rows(path: Path) -> Iterator[tuple[str, list[Cell]]]:
    """(place, cells) of the header and of every row below it that is not blank; each has as many cells as the header.

    Numbers without decimals are whole numbers, and dates are ISO 8601.

    Raises:
        FormatError: if the file is missing, damaged, encrypted, too large, or a row has more cells than the header.
        MissingExtraError: without openpyxl.
    """
    data = decode.read_bytes(path)
    _check_archive(path, data)
    header: list[Cell] = []
    for number, values in _sheet_rows(path, data):
        cells = [_value(value) for value in values]
        while cells and cells[-1] in (None, ""):
            cells.pop()
        if not cells:
            continue
        if not header:
            header = ["" if cell is None else str(cell) for cell in cells]
            yield "header", header
        elif len(cells) > len(header):
            raise FormatError(path, f"row {number}", f"has more cells than the header ({len(header)}); name every column")
        else:
            yield f"row {number}", cells + [None] * (len(header) - len(cells))


def encode(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> tuple[bytes, int]:
    """(a workbook of one sheet, the number of texts that were cut to `MAX_CHARS`). Raises MissingExtraError without openpyxl.

    Every string is a text cell, marked so that a program that edits it takes no `=`, `+`, `-` or `@` for a formula's beginning.
    Characters that XML cannot hold become U+FFFD.
    """
    openpyxl = _openpyxl()
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("texts")
    n_cut = 0
    for row in itertools.chain([header], rows):
        cells = []
        for value in row:
            if isinstance(value, str):
                n_cut += len(value) > MAX_CHARS
                value = _text_cell(openpyxl, sheet, value)
            cells.append(value)
        sheet.append(cells)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue(), n_cut


def _text_cell(openpyxl: Any, sheet: Any, value: str) -> Any:
    """A cell that holds a string whatever it begins with."""
    text = _NOT_XML.sub("\ufffd", decode.encodable(value))
    if len(text) > MAX_CHARS:
        text = text[: MAX_CHARS - 1] + "…"
    cell = openpyxl.cell.WriteOnlyCell(sheet, value=text)
    cell.data_type = "s"  # else openpyxl takes "=" for a formula's beginning
    if text[:1] in ("=", "+", "-", "@", "\t", "\r"):
        cell.quotePrefix = True
    return cell


def _check_archive(path: Path, data: bytes) -> None:
    """Unpack every part once, piece by piece, and keep none: raises FormatError over what is no workbook, or a dangerous one."""
    if data.startswith(_OLE):
        raise FormatError(path, "", "is encrypted, or an old .xls; save it as .xlsx without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            if len(parts) > MAX_PARTS:
                raise FormatError(path, "", f"has {len(parts)} parts; at most {MAX_PARTS} are allowed, save it as .csv")
            n_bytes = 0
            for part in parts:
                n_bytes = _check_part(path, archive, part, n_bytes)
    except (*_BROKEN, OSError) as error:
        raise FormatError(path, "", f"not a readable .xlsx file: {error or type(error).__name__}") from error


def _check_part(path: Path, archive: zipfile.ZipFile, part: zipfile.ZipInfo, n_bytes: int) -> int:
    """Unpack one part. Args: n_bytes, of those before it. Returns: the bytes with it."""
    last = b""
    with archive.open(part) as opened:
        while piece := opened.read(_PIECE):
            n_bytes += len(piece)
            if n_bytes > MAX_BYTES:
                limit = f"{MAX_BYTES / 2**20:.0f} MiB"
                raise FormatError(path, part.filename, f"unpacks to more than {limit}, which is allowed; save the sheet as .csv")
            if any(mark in last + piece for mark in _DOCTYPES):
                raise FormatError(path, part.filename, "declares a document type, which no spreadsheet has; save it anew")
            last = piece[-32:]
    return n_bytes


def _sheet_rows(path: Path, data: bytes) -> list[tuple[int, Sequence[Any]]]:
    """(number, values) of every row of the first sheet that has a value; raises FormatError beyond the bounds."""
    openpyxl, found = _openpyxl(), []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of openpyxl, about parts that it does not keep
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
            if not book.worksheets:
                raise FormatError(path, "", "has no sheet with cells; add one")
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # the file's own word for its size is not believed
            for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
                if number > MAX_ROWS or len(values) > MAX_COLUMNS:
                    size = f"row {number}" if number > MAX_ROWS else f"{len(values)} cells in row {number}"
                    raise FormatError(path, "", f"has {size}; at most {MAX_ROWS} rows of {MAX_COLUMNS} cells are allowed")
                if any(value is not None for value in values):
                    found.append((number, values))
    except _BROKEN as error:
        raise FormatError(path, "", f"not a readable .xlsx file: {error or type(error).__name__}") from error
    return found


def _value(value: Any) -> Cell:
    """A cell's value: whole numbers as such, dates and times as ISO 8601."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def _openpyxl() -> Any:
    """Import openpyxl; raises MissingExtraError with the install command."""
    try:
        import openpyxl
        import openpyxl.cell
    except ImportError:
        raise MissingExtraError("openpyxl", "sheets") from None
    return openpyxl
