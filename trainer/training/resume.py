"""Resume a run that was killed, from the work folder beside its checkpoint, `<checkpoint>.partial`.

run.json             everything that decides the run; a run with other settings does not resume from here
<name>/checkpoint-N  the loop's state after step N: weights, optimizer, schedule, random numbers; complete once it has `kept.pt`
<name>-pretrain/...  the same for masked pretraining; `done/kept.pt` is the pretrained student
seed-N.npz           answers of a finished student of an ensemble

Nothing is written before the first state, and the folder is removed once the checkpoint is complete.
"""

from __future__ import annotations

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

from potstill.contract.checkpoint import WORK_LOCK_FILE, WORK_SUFFIX
from potstill.contract.errors import UserError
from potstill.contract.files import atomic, locks

# --- signals

HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Record the first signal that asks the run to stop."""

    def __init__(self) -> None:
        """Start without a signal."""
        self._number: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a signal has been received."""
        return self._number is not None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: record the first signal, pass a second one on to the handler before."""
        if self._number is not None:
            self._before[number](number, frame)
        self._number = number

    def reason(self) -> KeyboardInterrupt:
        """The exception of the signal's earlier handler; it tells the console the exit code."""
        try:
            if self._number is not None:
                self._before[self._number](self._number, None)
        except KeyboardInterrupt as reason:
            return reason
        return KeyboardInterrupt()

    def take_over(self) -> None:
        """Handle the signals that have a Python handler; those that are ignored or kill at once stay as they are."""
        for number in HANDLED_SIGNALS:
            if callable(signal.getsignal(number)):
                self._before[number] = signal.signal(number, self.note)

    def give_back(self) -> None:
        """Restore the earlier handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def recorded_signals() -> Iterator[StopRequest]:
    """Record signals inside the block. Python allows that in the main thread only; elsewhere none is recorded."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    stop.take_over()
    try:
        yield stop
    finally:
        stop.give_back()


# --- the work folder

RUN_FILE, SEAL_FILE = "run.json", "kept.pt"
PRETRAINING = "-pretrain"  # suffix of the states' name
Fingerprint = dict[str, Any]  # everything that decides a run, as JSON values
Unfinished = Literal["resume", "restart", "resume or restart"]  # the last starts over if the settings differ


@contextmanager
def disk_refusals(folder: Path, what: str) -> Iterator[None]:
    """Turn errors of a full or read-only disk inside the block into UserError. Args: what is saved, as in `the state`."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):  # torch's error for a full disk
            raise
        why = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise UserError(
            f"{folder}: {what} cannot be saved ({why}); free some space, and the same command goes on from the last state"
        ) from error


def seal(folder: Path, values: dict[str, Any]) -> None:
    """Write the file that marks the folder as complete."""
    torch.save(values, folder / f"{SEAL_FILE}.new")
    os.replace(folder / f"{SEAL_FILE}.new", folder / SEAL_FILE)


class DivergenceError(UserError):
    """The loss diverged: the run cannot succeed with these settings, so its states are not worth keeping."""


@dataclass(frozen=True)
class WorkFolder:
    """The work folder of a run, with the interval between states and the request to stop."""

    folder: Path
    fingerprint: Fingerprint
    stop: StopRequest
    save_every_s: float
    writes: bool = True  # in distributed training only one process does
    _held: list[IO[str]] = field(default_factory=list)

    def claim(self) -> None:
        """Create and lock the folder; raises UserError if another process holds it, or the disk refuses or has no locks."""
        if self._held or not self.writes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / WORK_LOCK_FILE).open("w")
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written ({error.strerror}); free some space or choose another place"
            ) from error
        try:
            locks.take(self.folder, lock)
        except locks.HeldError as error:
            lock.close()
            raise UserError(f"{self.folder}: another process is training this student; wait for it, or stop it") from error
        except UserError:
            lock.close()
            raise
        self._held.append(lock)
        atomic.write_file(self.folder / RUN_FILE, msgspec.json.format(msgspec.json.encode(self.fingerprint), indent=2) + b"\n")

    def latest(self, name: str) -> Path | None:
        """The newest complete state of a training, if there is one. Args: name, of its folder."""
        states = [path.parent for path in (self.folder / name).glob(f"checkpoint-*/{SEAL_FILE}")]
        return max(states, key=lambda path: int(path.name.rpartition("-")[2]), default=None)

    def forget(self, name: str) -> None:
        """Remove the states of a finished training. Args: name, of its folder."""
        if self.writes:
            for folder in (name, name + PRETRAINING):
                atomic.remove_folder(self.folder / folder)  # half of a state must not be resumed from


@contextmanager
def work_folder(
    checkpoint: Path, fingerprint: Fingerprint, unfinished: Unfinished, save_every_s: float, *, writes: bool
) -> Iterator[WorkFolder]:
    """Open a run's work folder: removed when the block succeeds, kept when it fails and there is a state to resume from.

    Args:
        fingerprint: everything that decides the run, as JSON values.
        unfinished: what to do with an unfinished run in the folder.
        save_every_s: least seconds between two states.
        writes: whether this process is the one that writes.
    Raises:
        UserError: if the folder holds a run with other settings, or another process holds it.
    """
    with recorded_signals() as stop:
        work = WorkFolder(checkpoint.with_name(checkpoint.name + WORK_SUFFIX), fingerprint, stop, save_every_s, writes)
        try:
            if writes:
                atomic.remove_left_behind(work.folder)
            if work.folder.exists():
                _take_up(work, unfinished)  # a folder that this refuses is not ours to remove
            with _kept_if_resumable(work):
                yield work
        finally:
            for lock in work._held:
                lock.close()


@contextmanager
def _kept_if_resumable(work: WorkFolder) -> Iterator[None]:
    """Remove the folder when the block ends, unless it failed and the folder holds something to resume from."""
    try:
        yield
    except DivergenceError:
        _remove(work)
        raise
    except BaseException:
        if not any(work.folder.glob(f"*/*/{SEAL_FILE}")) and not any(work.folder.glob("*.npz")):
            _remove(work)
        raise
    _remove(work)


def _take_up(work: WorkFolder, unfinished: Unfinished) -> None:
    """Refuse, remove or accept the states of an earlier run."""
    try:
        found = msgspec.json.decode((work.folder / RUN_FILE).read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        found = None
    wanted = msgspec.json.decode(msgspec.json.encode(work.fingerprint))
    if found == wanted and unfinished != "restart":
        work.claim()
        return
    if isinstance(found, dict) and unfinished == "resume":
        changed = ", ".join(
            f"{name} was {_short(found.get(name))}, is {_short(wanted.get(name))}"
            for name in sorted({*found, *wanted})
            if found.get(name) != wanted.get(name)
        )
        raise UserError(
            f"{work.folder}: holds an unfinished run with other settings ({changed}); finish that run, or add --restart"
        )
    if work.writes and found is None and unfinished == "resume" and not all(_is_own(path.name) for path in work.folder.iterdir()):
        raise UserError(f"{work.folder}: is not the work folder of a training; name another checkpoint, or add --restart")
    work.claim()
    if work.writes:
        for path in work.folder.iterdir():
            if path.name not in (WORK_LOCK_FILE, RUN_FILE):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_own(name: str) -> bool:
    """Whether a file is one that a run begins with; one that was killed while it began left no more than these."""
    return name in (WORK_LOCK_FILE, RUN_FILE) or name.startswith(f".{RUN_FILE}.")


def _short(value: object) -> str:
    """A value that fits into a line: digests are shortened."""
    text = msgspec.json.encode(value).decode().strip('"')
    return f"{text[:12]}…" if len(text) > 40 else text


def _remove(work: WorkFolder) -> None:
    """Remove the folder, if this process holds its lock."""
    if work.writes and work._held:
        atomic.remove_folder(work.folder)
