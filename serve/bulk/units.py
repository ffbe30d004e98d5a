"""A folder of texts at any fsspec address, divided into units of work that are read, answered and written apart.

A unit is a range of bytes of a file of JSON lines, a whole gzip file, or some rows of a row group of a Parquet file. The same
files are always divided in the same way, and each unit has one part of the output, so a part that is there need not be made again.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

import fsspec
import msgspec
import pyarrow
from pyarrow import parquet

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files.arrow import unreadable
from potstill.contract.interchange import text_pieces
from potstill.contract.interchange.text_pieces import TextPiece
from potstill.contract.interchange.text_rows import TextRow

UNIT_BYTES = 4 << 20  # of JSON lines: some 20,000 short texts
UNIT_ROWS = 20_000  # of Parquet
KINDS = (".jsonl", ".jsonl.gz", ".parquet")


class Unit(msgspec.Struct, frozen=True):
    """A part of the work."""

    number: int  # in the order of the input
    file: str  # an fsspec address
    start: int = 0  # the first byte, or the first row of the row group
    stop: int = 0  # behind the last; 0: the end of a gzip file
    row_group: int = -1  # of a Parquet file
    row: int = 0  # of the file, with which the row group begins


@dataclass(frozen=True)
class Store:
    """A place at an fsspec address."""

    address: str

    @property
    def opened(self) -> tuple[Any, str]:
        """(the file system, the path in it); raises UserError if there is no such file system here."""
        try:
            found: tuple[Any, str] = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise UserError(f"{self.address}: {error}") from error
        return found

    def names(self) -> dict[str, int]:
        """Size in bytes of every file by name, of a folder that may be absent."""
        system, path = self.opened
        if not system.exists(path):
            return {}
        return {found["name"].rsplit("/", 1)[-1]: found["size"] or 0 for found in system.ls(path, detail=True, refresh=True)}

    def write(self, name: str, data: bytes) -> None:
        """Write a file that appears whole: an object store shows it when all is sent, elsewhere it is renamed."""
        system, path = self.opened
        system.makedirs(path, exist_ok=True)
        if "file" not in (protocol := system.protocol) and protocol != "file":
            system.pipe_file(f"{path}/{name}", data)
            return
        hidden = f"{path}/.{name}.{fsspec.utils.tokenize(self.address, name, id(data))}"
        with system.open(hidden, "wb") as file:
            file.write(data)
        system.mv(hidden, f"{path}/{name}")

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        system, path = self.opened
        return cast(bytes, system.cat_file(f"{path}/{name}"))


def units_of(address: str) -> list[Unit]:
    """Divide the files of a folder, or one file.

    Raises:
        FormatError: if there is none, or a Parquet file is damaged.
        UserError: if there is no such file system here.
    """
    system, path = Store(address).opened
    if not system.exists(path):
        raise FormatError(address, "", "no such file or folder; check the path")
    single = system.isfile(path)
    files = [path] if single else sorted(system.find(path))
    files = [file for file in files if single or not any(part[:1] in "._" for part in file.removeprefix(path).split("/") if part)]
    files = [file for file in files if file.lower().endswith(KINDS)]
    if not files:
        raise FormatError(address, "", f"holds no file of texts; --engine ray reads {', '.join(KINDS)}")
    found: list[Unit] = []
    for file in files:
        found += _units_of_file(system, file, len(found))
    return found


def pieces(unit: Unit) -> Iterator[TextPiece]:
    """The pieces of a unit; raises FormatError if it cannot be read."""
    system, path = Store(unit.file).opened
    try:
        if unit.row_group >= 0:
            yield from _parquet_pieces(system, unit, path)
        elif unit.stop:
            yield from text_pieces.cut_lines(Path(unit.file), _lines(system, unit, path), 0)
        else:
            with gzip.open(cast(IO[bytes], system.open(path, "rb"))) as file:
                yield from text_pieces.cut_lines(Path(unit.file), cast(IO[bytes], file), 0)
    except (OSError, EOFError, zlib.error, pyarrow.ArrowException) as error:
        raise FormatError(unit.file, "", f"cannot be read: {error}") from error


def rows_at(address: str) -> Iterator[TextRow]:
    """Every row of the files at an address, in order; raises as :func:`units_of`, and FormatError for a malformed row."""
    for unit in units_of(address):
        for row in chain.from_iterable(map(text_pieces.rows, pieces(unit))):
            if isinstance(row, FormatError):
                raise FormatError(unit.file, placed(unit, row.place), row.problem)
            yield row


def placed(unit: Unit, place: str) -> str:
    """A place in a file: lines are counted from the beginning of the unit in which they are read."""
    kind, _, rest = place.partition(" ")
    number, colon, field = rest.partition(":")
    if kind == "line" and number.isdigit():
        return f"line {int(number) + _lines_before(unit)}{colon}{field}"
    return place


def _lines_before(unit: Unit) -> int:
    """Lines of the file before the unit; they are counted for an error alone."""
    if not unit.start or unit.row_group >= 0:
        return 0
    system, path = Store(unit.file).opened
    n_lines, first = 0, _first_byte(system, unit, path)
    with system.open(path, "rb") as file:
        while first > 0 and (block := file.read(min(first, UNIT_BYTES))):
            n_lines, first = n_lines + block.count(b"\n"), first - len(block)
    return n_lines


def _units_of_file(system: Any, file: str, number: int) -> list[Unit]:
    """The units of one file. Args: number, of the first."""
    address = system.unstrip_protocol(file) if "file" not in (system.protocol, *system.protocol) else file
    if file.lower().endswith(".gz"):
        return [Unit(number, address)]
    if file.lower().endswith(".jsonl"):
        size = system.size(file)
        return [
            Unit(number + n, address, start, min(size, start + UNIT_BYTES)) for n, start in enumerate(range(0, size, UNIT_BYTES))
        ]
    try:
        with system.open(file, "rb") as opened:
            footer = parquet.ParquetFile(opened).metadata
    except (OSError, pyarrow.ArrowException) as error:
        raise unreadable(address, error) from error
    found: list[Unit] = []
    row = 0
    for group in range(footer.num_row_groups):
        n_rows = footer.row_group(group).num_rows
        for start in range(0, n_rows, UNIT_ROWS):
            found.append(Unit(number + len(found), address, start, min(n_rows, start + UNIT_ROWS), group, row))
        row += n_rows
    return found


def _first_byte(system: Any, unit: Unit, path: str) -> int:
    """Where the first line that begins in the unit begins: a line belongs to the unit in which its first byte is."""
    if not unit.start:
        return 0
    with system.open(path, "rb") as file:
        file.seek(unit.start - 1)
        return unit.start - 1 + len(file.readline())


def _lines(system: Any, unit: Unit, path: str) -> Iterator[bytes]:
    """The lines that begin in a range of bytes."""
    at = _first_byte(system, unit, path)
    with system.open(path, "rb") as file:
        file.seek(at)
        while at < unit.stop and (line := file.readline()):
            at += len(line)
            yield line


def _parquet_pieces(system: Any, unit: Unit, path: str) -> Iterator[TextPiece]:
    """Some rows of a row group."""
    with system.open(path, "rb") as file:
        table = parquet.ParquetFile(file)
        batches = table.iter_batches(UNIT_ROWS, row_groups=[unit.row_group], use_threads=False)
        at = 0
        for batch in batches:
            first, last = max(unit.start - at, 0), min(unit.stop - at, len(batch))
            if first < last:
                yield from text_pieces.cut_table(
                    Path(unit.file), batch.slice(first, last - first).to_pydict(), unit.row + at + first
                )
            at += len(batch)
            if at >= unit.stop:
                return
