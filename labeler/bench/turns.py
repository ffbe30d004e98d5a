"""Measure parts in turns of a few texts, so that noise of the machine affects all of them alike."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from potstill.contract.errors import UserError

BenchProgress = Callable[[str, int, int], None]  # stage, texts done, texts in all


@dataclass(frozen=True)
class Turn:
    """Time and tokens of one part in one turn."""

    seconds: float
    n_tokens: int  # prompt tokens of the texts and generated tokens, without the shared prefix


class BenchPart(Protocol):
    """A part of the benchmark that takes turns."""

    name: str

    def warm_up(self) -> None:
        """Do untimed work once, before the first turn."""
        ...

    def turn(self, rows: range) -> Turn:
        """Label the texts of these rows, or do an equivalent amount of work."""
        ...

    def close(self) -> None:
        """Free all resources; safe to call twice."""
        ...


@dataclass(frozen=True)
class Ratio:
    """How many times one part is as fast as another: of the totals, and between which bounds it lay from turn to turn."""

    value: float
    low: float
    high: float


def take_turns(parts: Sequence[BenchPart], n: int, n_per_turn: int, progress: BenchProgress | None = None) -> dict[str, list[Turn]]:
    """Let the parts take turns, in order and in reverse order alternately, so that no part always follows the same one.

    Args:
        n: number of texts; each part labels all of them.
        n_per_turn: texts per turn.
    Returns:
        The turns of every part, by its name.
    """
    turns: dict[str, list[Turn]] = {part.name: [] for part in parts}
    n_done = 0
    for number, start in enumerate(range(0, n, n_per_turn)):
        rows = range(start, min(start + n_per_turn, n))
        for part in parts if number % 2 == 0 else reversed(parts):
            turns[part.name].append(part.turn(rows))
            n_done += len(rows)
            if progress:
                progress("bench", n_done, n * len(parts))
    return turns


def seconds(turns: Sequence[Turn]) -> float:
    """Total seconds of all turns."""
    return sum(turn.seconds for turn in turns)


def tokens_per_s(turns: Sequence[Turn]) -> float:
    """Tokens per second over all turns."""
    return sum(turn.n_tokens for turn in turns) / seconds(turns)


def time_ratio(turns: Mapping[str, Sequence[Turn]], slow: str, fast: str) -> Ratio | None:
    """Seconds of ``slow`` over seconds of ``fast`` for the same texts; None if one of them was not measured."""
    if slow not in turns or fast not in turns:
        return None
    each = [a.seconds / b.seconds for a, b in zip(turns[slow], turns[fast], strict=True)]
    return Ratio(seconds(turns[slow]) / seconds(turns[fast]), min(each), max(each))


def speed_ratio(turns: Mapping[str, Sequence[Turn]], part: str, limit: str) -> Ratio | None:
    """Tokens per second of ``part`` over those of ``limit``; None if one of them was not measured."""
    if part not in turns or limit not in turns:
        return None
    pairs = zip(turns[part], turns[limit], strict=True)
    each = [tokens_per_s([a]) / tokens_per_s([b]) for a, b in pairs if a.n_tokens and b.n_tokens]
    return Ratio(tokens_per_s(turns[part]) / tokens_per_s(turns[limit]), min(each), max(each))


class OwnProcess:
    """A part that runs in a fresh process; a UserError there is raised here."""

    def __init__(self, name: str, make: Callable[[], BenchPart]) -> None:
        """Start the process. Args: make, picklable, makes the part in the process."""
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_work, args=(far_end, make), daemon=True)
        self._process.start()
        far_end.close()
        self._answer()

    def warm_up(self) -> None:
        """Warm up the part."""
        self._pipe.send(None)
        self._answer()

    def turn(self, rows: range) -> Turn:
        """The part's turn, by the clock of its own process."""
        self._pipe.send(rows)
        turn: Turn = self._answer()
        return turn

    def close(self) -> None:
        """End the process; safe to call twice."""
        self._pipe.close()
        self._process.join()

    def _answer(self) -> Any:
        """Receive the next answer of the process."""
        try:
            answer = self._pipe.recv()
        except EOFError:
            self.close()
            raise UserError(f"the process of part {self.name!r} ended with status {self._process.exitcode}") from None
        if isinstance(answer, UserError):
            self.close()
            raise UserError(str(answer))
        return answer


def _work(pipe: Connection, make: Callable[[], BenchPart]) -> None:
    """Make the part and serve requests until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent then closes the pipe
    try:
        part = make()
        try:
            pipe.send(None)
            while True:
                rows: range | None = pipe.recv()
                pipe.send(_do(part, rows))
        finally:
            part.close()
    except EOFError:
        return
    except UserError as error:
        pipe.send(UserError(str(error)))


def _do(part: BenchPart, rows: range | None) -> Turn | None:
    """Do a turn, or the warm-up if there are no rows."""
    if rows is None:
        part.warm_up()
        return None
    return part.turn(rows)
