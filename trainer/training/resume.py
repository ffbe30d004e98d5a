"""The work folder beside a checkpoint, `<checkpoint>.partial`: from what is in it a run that was killed goes on.

run.json             what the run is made of; a run of something else does not go on from here
<part>/checkpoint-N  the loop's state after step N: weights, optimizer, schedule, random numbers; whole once `kept.pt` is in it
<part>-pretrain/...  the same for masked reading before it; `done/kept.pt` is the student that came of it
seed-N.npz           what finished students of several answered

Nothing is written before the first state, and everything vanishes once the checkpoint is whole.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal

import msgspec
import torch
from safetensors import SafetensorError

from potstill.contract.errors import UserError
from potstill.contract.files import atomic

HEEDED = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody asked the work to stop."""

    def __init__(self) -> None:
        """Nobody has."""
        self._number: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """A signal came."""
        return self._number is not None

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler: the first signal is noted, the second does what it would have done."""
        if self._number is not None:
            self._before[number](number, frame)
        self._number = number

    def reason(self) -> KeyboardInterrupt:
        """What the signal's own handler raises; it tells the console which exit code is right."""
        try:
            if self._number is not None:
                self._before[self._number](self._number, None)
        except KeyboardInterrupt as reason:
            return reason
        return KeyboardInterrupt()

    def take_over(self) -> None:
        """Note the signals that raise something in this process; leave alone what is ignored or kills it at once."""
        for number in HEEDED:
            if callable(signal.getsignal(number)):
                self._before[number] = signal.signal(number, self.note)

    def give_back(self) -> None:
        """Let the signals do again what they did."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def noted_signals() -> Iterator[Stop]:
    """Note signals inside the block; outside the main thread, where Python lets nobody, none is noted."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    stop.take_over()
    try:
        yield stop
    finally:
        stop.give_back()


SUFFIX, RUN_FILE, LOCK_FILE, SEAL_FILE = ".partial", "run.json", "lock", "kept.pt"
PRETRAINING = "-pretrain"  # follows a part's name
MadeOf = dict[str, Any]
Unfinished = Literal["resume", "restart", "resume or restart"]  # the last begins anew where the run is of something else


@contextmanager
def disk_refusals(folder: Path, what: str) -> Iterator[None]:
    """Raise UserError where the disk refuses what is written inside. Args: what, as in `the state`."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):  # torch's word for a full disk
            raise
        why = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise UserError(
            f"{folder}: {what} cannot be saved ({why}); free some space, and the same command goes on from the last state"
        ) from error


def seal(folder: Path, values: dict[str, Any]) -> None:
    """Write the file that says that the folder is whole."""
    torch.save(values, folder / f"{SEAL_FILE}.new")
    os.replace(folder / f"{SEAL_FILE}.new", folder / SEAL_FILE)


class LostError(UserError):
    """The run cannot succeed as it was told, so nothing of it is worth keeping."""


@dataclass(frozen=True)
class Work:
    """Where a run keeps its states, when, and whether it has been asked to stop."""

    folder: Path
    made_of: MadeOf
    stop: Stop
    save_every_s: float
    writes: bool = True  # of several processes only one does
    _held: list[IO[str]] = field(default_factory=list)

    def claim(self) -> None:
        """Make the folder, ready to write to. Raises UserError if another process works there, or the disk refuses."""
        if self._held or not self.writes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / LOCK_FILE).open("w")
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written ({error.strerror}); free some space or choose another place"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise UserError(f"{self.folder}: another process trains this student; wait for it, or end it") from error
        self._held.append(lock)
        atomic.write_file(self.folder / RUN_FILE, msgspec.json.format(msgspec.json.encode(self.made_of), indent=2) + b"\n")

    def latest(self, part: str) -> Path | None:
        """The newest whole state of a part, if there is one."""
        states = [path.parent for path in (self.folder / part).glob(f"checkpoint-*/{SEAL_FILE}")]
        return max(states, key=lambda path: int(path.name.rpartition("-")[2]), default=None)

    def forget(self, part: str) -> None:
        """Remove the states of a part that is finished."""
        if self.writes:
            for name in (part, part + PRETRAINING):
                shutil.rmtree(self.folder / name, ignore_errors=True)


@contextmanager
def work_folder(checkpoint: Path, made_of: MadeOf, unfinished: Unfinished, save_every_s: float, *, writes: bool) -> Iterator[Work]:
    """A run's work folder; gone when the block ends well, kept when there is something to go on from.

    Args:
        made_of: everything that decides what the run makes, as JSON values.
        unfinished: what to do with a run that is there already.
        save_every_s: least seconds between two states.
        writes: whether this process is the one that writes.
    Raises:
        UserError: if the folder holds a run of something else, or another process works in it.
    """
    with noted_signals() as stop:
        work = Work(checkpoint.with_name(checkpoint.name + SUFFIX), made_of, stop, save_every_s, writes)
        try:
            if work.folder.exists():
                _take_up(work, unfinished)  # what it refuses is not ours to remove
            with _kept_if_worth_it(work):
                yield work
        finally:
            for lock in work._held:
                lock.close()


@contextmanager
def _kept_if_worth_it(work: Work) -> Iterator[None]:
    """Remove the folder when the block ends, unless it failed and there is something in it to go on from."""
    try:
        yield
    except LostError:
        _remove(work)
        raise
    except BaseException:
        if not any(work.folder.glob(f"*/*/{SEAL_FILE}")) and not any(work.folder.glob("*.npz")):
            _remove(work)
        raise
    _remove(work)


def _take_up(work: Work, unfinished: Unfinished) -> None:
    """Refuse, remove or accept what an earlier run left."""
    try:
        found = msgspec.json.decode((work.folder / RUN_FILE).read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        found = None
    wanted = msgspec.json.decode(msgspec.json.encode(work.made_of))
    if found == wanted and unfinished != "restart":
        work.claim()
        return
    if isinstance(found, dict) and unfinished == "resume":
        changed = ", ".join(
            f"{name} was {_short(found.get(name))}, is {_short(wanted.get(name))}"
            for name in sorted({*found, *wanted})
            if found.get(name) != wanted.get(name)
        )
        raise UserError(f"{work.folder}: holds an unfinished run of something else ({changed}); go on with that, or add --restart")
    if work.writes and found is None and unfinished == "resume" and any(work.folder.iterdir()):
        raise UserError(f"{work.folder}: is no unfinished run of a training; name another checkpoint, or add --restart")
    work.claim()
    if work.writes:
        for path in work.folder.iterdir():
            if path.name not in (LOCK_FILE, RUN_FILE):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _short(value: object) -> str:
    """A value as it fits into a line: digests are cut."""
    text = msgspec.json.encode(value).decode().strip('"')
    return f"{text[:12]}…" if len(text) > 40 else text


def _remove(work: Work) -> None:
    """Take the folder away, if this process has made it its own."""
    if work.writes and work._held:
        shutil.rmtree(work.folder, ignore_errors=True)
