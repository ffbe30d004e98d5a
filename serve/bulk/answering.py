"""One worker: an open bundle that answers pieces of texts, in a thread or in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path

import msgspec

from potstill.contract.bundle import BundleFiles, read_files, read_manifest
from potstill.contract.errors import FormatError, UserError
from potstill.contract.interchange import text_pieces
from potstill.contract.interchange.text_pieces import TextPiece
from potstill.contract.texts import row_to_answer
from potstill.serve.bulk.table import PredictionTable, Row
from potstill.serve.config import Form
from potstill.serve.offline.predict import answer_row
from potstill.serve.runtime.classifier import Classifier


class BadRow(msgspec.Struct, frozen=True):
    """A row that has no answer, since it is malformed; a line of the file of bad rows."""

    file: str
    place: str
    problem: str


@dataclass(frozen=True)
class PieceAnswer:
    """The predictions of a piece."""

    data: bytes  # in the form that was asked for
    n_rows: int  # answered or empty
    n_skipped: int  # of these, the empty ones
    bad: list[BadRow] = field(default_factory=list)  # further rows
    refused: str = ""  # why the bundle cannot be opened; then there is nothing else


@dataclass(frozen=True)
class AnswerSettings:
    """How a worker opens the bundle and writes its answers."""

    bundle: Path
    digest: str  # of the bundle; another one that has taken its place meanwhile is refused
    form: Form
    sets: bool = False
    trust: bool = False
    threads: int = 1  # cores that one text may use


class PieceAnswerer:
    """A bundle that answers pieces. Several threads may share one."""

    def __init__(self, settings: AnswerSettings, files: BundleFiles | None = None) -> None:
        """Open the bundle.

        Args:
            settings: its folder, and the form of the answers.
            files: of the bundle, if they were read; then the folder need not be on this machine.
        Raises:
            FormatError, UserError: as `Classifier.open`; UserError if another bundle stands there now.
        """
        files = files or read_files(settings.bundle, settings.trust)
        if files.digest != settings.digest:
            raise UserError(f"{settings.bundle}: has been replaced meanwhile; begin again")
        self._settings = settings
        self._classifier = Classifier.from_files(files, threads=settings.threads)
        self._table = PredictionTable.of(read_manifest(files), files, sets=settings.sets)

    def __call__(self, piece: TextPiece) -> PieceAnswer:
        """Answer the rows of a piece, in order."""
        answered: list[Row] = []
        bad: list[BadRow] = []
        n_skipped = 0
        for row in text_pieces.rows(piece):
            try:
                if isinstance(row, FormatError):
                    raise row
                text, reason = row_to_answer(row, self._classifier.manifest.target)
                answered.append(answer_row(self._classifier, text, reason, self._settings.sets))
                n_skipped += reason != ""
            except FormatError as error:
                bad.append(BadRow(str(piece.path), error.place, error.problem))
            except UserError as error:  # about one text, such as a target that is too long
                bad.append(BadRow(str(piece.path), "" if isinstance(row, FormatError) else row.place, str(error)))
        return PieceAnswer(self._table.encode(answered, self._settings.form), len(answered), n_skipped, bad)


# In a process of its own.

_OPEN: dict[AnswerSettings, PieceAnswerer] = {}


def begin_process() -> None:
    """Leave Ctrl-C to the parent, and end with it: a pool's process would wait for ever for one that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=[parent.sentinel], daemon=True).start()


def answer_piece(settings: AnswerSettings, piece: TextPiece) -> PieceAnswer:
    """Answer a piece with the bundle that this process opens once."""
    try:
        if settings not in _OPEN:
            _OPEN[settings] = PieceAnswerer(settings)
    except UserError as error:  # as a value, since our errors do not travel between processes
        return PieceAnswer(b"", 0, 0, refused=str(error))
    return _OPEN[settings](piece)


def _end_with(sentinel: int) -> None:
    """Wait until the parent has ended, and end this process."""
    connection.wait([sentinel])
    os._exit(1)
