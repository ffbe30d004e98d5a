"""`potstill predict` on files and folders of any size."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO

from potstill.contract.bundle import read_files, read_manifest
from potstill.contract.errors import FormatError, StoppedError, UserError
from potstill.contract.interchange import text_pieces
from potstill.contract.interchange.text_pieces import TextPiece
from potstill.contract.system.machine import usable_cores
from potstill.contract.texts import none_usable, row_to_answer
from potstill.serve.bulk.answering import AnswerSettings, PieceAnswer, PieceAnswerer, answer_piece, begin_process
from potstill.serve.bulk.output import BulkOutput, OutputPlace
from potstill.serve.bulk.table import PredictionTable
from potstill.serve.config import FORMS, Form, PredictConfig
from potstill.serve.offline.predict import skipped_line
from potstill.serve.runtime.classifier import check_sets

PIECES_AHEAD = 64  # read, and checked like a small file, before anything is answered
PIECES_IN_THREADS = 4  # fewer are answered before other processes have started
WAITING_PER_WORKER = 4  # pieces; enough that none waits for a slow text elsewhere

Report = Callable[[int], None]  # called with the number of rows that are done


_PREDICT = PredictConfig()


def _tell_nobody(_n_rows: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class BulkReport:
    """What was answered, over all sessions."""

    n_rows: int
    n_skipped: int  # of the rows, the empty ones
    n_bad: int = 0  # further rows, in the file of bad rows
    n_before: int = 0  # of the rows, those that earlier sessions had done

    def notes(self) -> list[str]:
        """What a person should know: rows that were done before, empty and malformed ones."""
        lines = [f"went on after {self.n_before} rows"] if self.n_before else []
        lines += [skipped_line(self.n_skipped, self.n_rows)] if self.n_skipped else []
        return lines + ([f"{self.n_bad} further rows are malformed; they are in the file of bad rows"] if self.n_bad else [])


@dataclass(frozen=True)
class _Job:
    """A run that is ready to begin."""

    settings: AnswerSettings
    table: PredictionTable
    target: bool  # whether texts have one
    workers: int
    passes_over: bool  # malformed rows


def predict_to_file(
    bundle: str | Path,
    path: str | Path,
    out: str | Path,
    config: PredictConfig = _PREDICT,
    *,
    form: Form | None = None,
    bad_rows: str | Path | None = None,
    report: Report = _tell_nobody,
) -> BulkReport:
    """Answer every row of a file or folder of any size, in order, into a file or a folder of Parquet files.

    Given again after a kill, the same call goes on where it stopped; the output has the bytes of an unbroken run.

    Args:
        bundle: the folder.
        path: as :func:`text_pieces.cut` takes it.
        out: a file ending in .jsonl, .jsonl.gz, .csv or .parquet; any other name is a folder of Parquet parts.
        config: processes, label sets.
        form: of the output; None: by the ending of ``out``.
        bad_rows: file (JSON lines) for rows that are malformed, which are passed over then; None: the first one is an error.
        report: called with the number of rows that are done.
    Raises:
        FormatError: if texts or bundle are malformed, naming the row. What was answered before it is kept.
        UserError: if the output is there already or belongs to another run, or as `Classifier.open`.
        StoppedError: on KeyboardInterrupt; what was answered is kept.
    """
    out, path = Path(out), Path(path)
    place = OutputPlace(out, form or form_of(out) or "parquet", None if bad_rows is None else Path(bad_rows))
    job = _job(Path(bundle), config, place.form, passes_over=bad_rows is not None)
    pieces, checked = _read_ahead(path, job)
    with BulkOutput(place, job.table, config.sets) as output:
        n_before, state = output.progress.n_rows, hashlib.sha256()
        try:
            for piece in islice(pieces, output.progress.n_pieces):
                state.update(piece.data)
            if output.progress.n_pieces and state.hexdigest() != output.progress.digest:
                raise UserError(f"{path}: is not what {out} was begun with; remove {place.growing} to begin again")
            for piece, answer in _answers(job, pieces, few=checked):
                state.update(piece.data)
                output.add(answer, state.hexdigest())
                report(output.progress.n_rows)
        except KeyboardInterrupt as stop:
            output.commit()
            rest = f"stopped after {output.progress.n_rows} rows; the same command goes on from there"
            raise StoppedError(f"{out}: {rest}") from stop
        except UserError:
            output.commit()
            raise
        done = output.progress
        output.finish()
    return BulkReport(done.n_rows, done.n_skipped, done.n_bad, n_before)


def predict_to_stream(
    bundle: str | Path, path: str | Path, stream: IO[bytes], config: PredictConfig = _PREDICT, *, form: Form = "jsonl"
) -> BulkReport:
    """Write the answer to every row to a stream, in order; arguments and errors as in :func:`predict_to_file`."""
    job = _job(Path(bundle), config, form, passes_over=False)
    pieces, few = _read_ahead(Path(path), job)
    stream.write(job.table.header(form))
    n_rows = n_skipped = 0
    for _, answer in _answers(job, pieces, few=few):
        stream.write(answer.data)
        n_rows, n_skipped = n_rows + answer.n_rows, n_skipped + answer.n_skipped
    return BulkReport(n_rows, n_skipped)


def form_of(out: Path) -> Form | None:
    """The form that a file's name asks for; None: it is a folder's."""
    name = out.name.lower()
    return next((form for form in FORMS if name.endswith(f".{form}")), None)


def _job(bundle: Path, config: PredictConfig, form: Form, *, passes_over: bool) -> _Job:
    """Read what the workers will open; raises FormatError, UserError."""
    files = read_files(bundle, config.trust)
    manifest = read_manifest(files)
    if config.sets:
        check_sets(manifest)
    settings = AnswerSettings(bundle, files.digest, form, config.sets, config.trust)
    table = PredictionTable.of(manifest, files, sets=config.sets)
    return _Job(settings, table, manifest.target, config.workers or usable_cores(), passes_over)


def _read_ahead(path: Path, job: _Job) -> tuple[Iterator[TextPiece], bool]:
    """(the pieces of a file, whether they are few), after its first rows were checked as those of a small file are.

    Raises:
        FormatError: as `read_rows`, of the first rows.
    """
    pieces = text_pieces.cut(path)
    ahead = list(islice(pieces, PIECES_AHEAD))
    texts: dict[str, tuple[str, str | None]] = {}
    n_rows = 0
    for n_rows, row in enumerate(chain.from_iterable(map(text_pieces.rows, ahead)), 1):  # noqa: B007  # counts
        if job.passes_over:
            break
        if isinstance(row, FormatError):
            raise row
        text, reason = row_to_answer(row, job.target)
        about = (text.text, text.target)
        if not reason and texts.setdefault(text.id, about) != about:
            raise FormatError(row.path, row.place, f"id {text.id!r} already belongs to another text; ids must be unique")
    if not n_rows and len(ahead) < PIECES_AHEAD:
        raise none_usable(path)
    return chain(ahead, pieces), len(ahead) <= PIECES_IN_THREADS


def _answers(job: _Job, pieces: Iterator[TextPiece], *, few: bool) -> Iterator[tuple[TextPiece, PieceAnswer]]:
    """(each piece, its answer), in order; an error about a piece comes after the answers to all before it."""
    waiting: deque[tuple[TextPiece, Future[PieceAnswer]]] = deque()
    problem: FormatError | None = None
    with _workers(job, few=few) as submit:
        while True:
            try:
                piece = next(pieces, None)
            except FormatError as error:
                piece, problem = None, error
            if piece is not None:
                waiting.append((piece, submit(piece)))
            while waiting and (piece is None or len(waiting) > WAITING_PER_WORKER * job.workers):
                answered, future = waiting.popleft()
                yield answered, _checked(job, future)
            if piece is None:
                break
    if problem is not None:
        raise problem


def _checked(job: _Job, future: Future[PieceAnswer]) -> PieceAnswer:
    """The answer to a piece; raises UserError if there is none, FormatError for a malformed row that is not to be passed over."""
    try:
        answer = future.result()
    except BrokenProcessPool as error:
        ended = "a process that answers texts has ended, maybe for lack of memory (fewer --workers need less)"
        raise UserError(f"{job.settings.bundle}: {ended}; the same command goes on from what is written") from error
    if answer.refused:
        raise UserError(answer.refused)
    if answer.bad and not job.passes_over:
        raise FormatError(answer.bad[0].file, answer.bad[0].place, answer.bad[0].problem)
    return answer


@contextmanager
def _workers(job: _Job, *, few: bool) -> Iterator[Callable[[TextPiece], Future[PieceAnswer]]]:
    """Yield a call that hands a piece to the workers: threads for few pieces, else processes."""
    pool: Executor
    if few:
        answering = PieceAnswerer(job.settings)
        pool = ThreadPoolExecutor(job.workers, thread_name_prefix="answer")
    else:
        # Python code around a small graph holds the interpreter's lock: threads would take turns.
        pool = ProcessPoolExecutor(job.workers, multiprocessing.get_context("spawn"), begin_process)

    def submit(piece: TextPiece) -> Future[PieceAnswer]:
        return pool.submit(answering, piece) if few else pool.submit(answer_piece, job.settings, piece)

    try:
        yield submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
