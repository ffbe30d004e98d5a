"""Where predictions are written, so that a run that was killed goes on: a file of lines, or Parquet in parts.

What is written grows beside its final name, with a small file that says up to where it is whole. Whatever a kill left behind that
is cut off, so an interrupted run ends with the same bytes as an unbroken one.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.files import arrow, atomic, decode, locks
from potstill.contract.files.decode import Strict
from potstill.serve.bulk.answering import PieceAnswer
from potstill.serve.bulk.table import PredictionTable
from potstill.serve.config import Form

COMMIT_S = 1.0  # of work that a kill may cost
PIECES_PER_PART = 256
PROGRESS_FILE, LOCK_FILE = "_progress.json", "_lock"


class BulkProgress(Strict):
    """How far a run is: all that concerns its first `n_pieces` pieces is on disk."""

    bundle: str  # digest
    sets: bool
    format: int = 1
    n_pieces: int = 0
    digest: str = ""  # SHA-256 of these pieces, so that another input is noticed
    n_rows: int = 0
    n_skipped: int = 0
    n_bad: int = 0
    size_bytes: int = 0  # of the lines
    bad_bytes: int = 0  # of the file of bad rows


@dataclass(frozen=True)
class OutputPlace:
    """The places of a run's output."""

    out: Path
    form: Form
    bad_rows: Path | None = None

    @property
    def in_parts(self) -> bool:
        """Whether a folder of parts is asked for."""
        return self.form == "parquet" and self.out.suffix.lower() != ".parquet"

    @property
    def growing(self) -> Path:
        """What grows: the folder itself, whose parts appear whole, or something beside the file."""
        return self.out if self.in_parts else self.out.with_name(self.out.name + ".partial")

    @property
    def progress(self) -> Path:
        """The file that says how far the run is."""
        return self.out / PROGRESS_FILE if self.in_parts else self.out.with_name(self.out.name + ".progress")


class BulkOutput:
    """An output that is being written. Use it in a `with` block; :meth:`finish` gives it its final name."""

    def __init__(self, place: OutputPlace, table: PredictionTable, sets: bool) -> None:
        """Begin, or take up what an earlier run left.

        Raises:
            UserError: if the output is there already, was begun with another bundle or other options, is being written by another
                process, or cannot be written.
        """
        self._place, self._table = place, table
        with atomic.as_user_error(place.out):
            place.out.parent.mkdir(parents=True, exist_ok=True)
            self.progress = self._taken_up(BulkProgress(bundle=table.bundle, sets=sets))
            if place.form == "parquet":
                place.growing.mkdir(exist_ok=True)
            lock = place.growing / LOCK_FILE if place.form == "parquet" else place.growing
            self._file: IO[bytes] = _locked(lock)
            self._bad = None if place.bad_rows is None else _cut_to(place.bad_rows, self.progress.bad_bytes)
            self._streams: list[bytes] = []
            self._committed_at = time.monotonic()
            if place.form != "parquet":
                self._file.truncate(self.progress.size_bytes)
                self._file.seek(0, os.SEEK_END)
                if not self.progress.size_bytes:
                    self._file.write(table.header(place.form))

    def __enter__(self) -> BulkOutput:
        """The output itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close; what was committed stays for the next run, if there is any."""
        self._file.close()
        if not self.progress.n_pieces:
            self._remove()
        if self._bad is not None:
            self._bad.close()

    def add(self, answer: PieceAnswer, digest: str) -> None:
        """Append the answer to the next piece. Args: digest, of all pieces up to this one."""
        with atomic.as_user_error(self._place.out):
            if self._place.form == "parquet":
                self._streams.append(answer.data)
            else:
                self._file.write(answer.data)
            if self._bad is not None:
                self._bad.writelines(msgspec.json.encode(row) + b"\n" for row in answer.bad)
            done = self.progress
            self.progress = msgspec.structs.replace(
                done,
                n_pieces=done.n_pieces + 1,
                digest=digest,
                n_rows=done.n_rows + answer.n_rows,
                n_skipped=done.n_skipped + answer.n_skipped,
                n_bad=done.n_bad + len(answer.bad),
            )
            if len(self._streams) == PIECES_PER_PART:
                self._write_part()
            elif self._place.form != "parquet" and time.monotonic() - self._committed_at > COMMIT_S:
                self.commit()

    def commit(self) -> None:
        """Put all lines so far on disk, and say so; of Parquet only whole parts are."""
        if self._streams:
            return
        with atomic.as_user_error(self._place.out):
            for file in filter(None, (self._file, self._bad)):
                file.flush()
                os.fsync(file.fileno())
            sizes = self._file.tell(), 0 if self._bad is None else self._bad.tell()
            self.progress = msgspec.structs.replace(self.progress, size_bytes=sizes[0], bad_bytes=sizes[1])
            atomic.write_file(self._place.progress, msgspec.json.encode(self.progress) + b"\n")
            self._committed_at = time.monotonic()

    def finish(self) -> None:
        """Give the output its final name."""
        place = self._place
        with atomic.as_user_error(place.out):
            if self._streams:
                self._write_part()
            self.commit()
            if place.form != "parquet":
                os.replace(place.growing, place.out)
            elif not place.in_parts:
                arrow.join_parquet(sorted(place.growing.glob("part-*.parquet")), place.out)
                atomic.remove_folder(place.growing)
            else:
                (place.growing / LOCK_FILE).unlink(missing_ok=True)
            place.progress.unlink(missing_ok=True)

    def _remove(self) -> None:
        """Remove an output in which there is nothing."""
        self._place.progress.unlink(missing_ok=True)
        if self._place.form == "parquet":
            (self._place.growing / LOCK_FILE).unlink(missing_ok=True)
            with suppress(OSError):  # the folder holds what others put there
                self._place.growing.rmdir()
        else:
            self._place.growing.unlink(missing_ok=True)

    def _write_part(self) -> None:
        """Write the next part of a Parquet folder."""
        number = (self.progress.n_pieces - 1) // PIECES_PER_PART
        atomic.write_file(self._place.growing / f"part-{number:05}.parquet", arrow.parquet_of_streams(self._streams))
        self._streams = []
        self.commit()

    def _taken_up(self, new: BulkProgress) -> BulkProgress:
        """What an earlier run says, or the new one's beginning; raises UserError if neither can be."""
        place = self._place
        if not place.progress.exists() or not place.growing.exists():
            for taken in filter(None, (place.out, place.bad_rows)):
                if taken.is_file() or (taken.is_dir() and any(entry.name[0] not in "._" for entry in taken.iterdir())):
                    raise UserError(f"{taken}: exists already; remove it, or name another place")
            return new
        found = decode.json(place.progress, decode.read_bytes(place.progress), BulkProgress)
        if (found.format, found.bundle, found.sets) != (new.format, new.bundle, new.sets):
            begun = f"was begun with another bundle or other options; remove {place.growing} and {place.progress} to begin again"
            raise UserError(f"{place.out}: {begun}, or name another place")
        return found


def _locked(path: Path) -> IO[bytes]:
    """Open a file for this process alone; raises UserError if another one writes there."""
    file = path.open("r+b" if path.exists() else "w+b")
    try:
        locks.take(path, file)
    except locks.HeldError:
        file.close()
        raise UserError(f"{path}: is being written by another process; wait for it, or name another place") from None
    return file


def _cut_to(path: Path, n_bytes: int) -> IO[bytes]:
    """Open a file behind its first bytes, without what follows them."""
    file = path.open("r+b" if path.exists() else "w+b")
    file.truncate(n_bytes)
    file.seek(0, os.SEEK_END)
    return file
