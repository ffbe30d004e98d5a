"""Taking turns: everything that is measured does a few texts at a time, so that a noisy machine is noisy for all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Progress = Callable[[str, int, int], None]  # stage, texts done, texts in all


@dataclass(frozen=True)
class Turn:
    """What one part did in one turn."""

    seconds: float
    n_tokens: int  # of the texts, and those that were written for them; never of the shared prefix


class Part(Protocol):
    """One of those that are measured."""

    name: str

    def warm_up(self) -> None:
        """Work outside the clock, once."""
        ...

    def turn(self, rows: range) -> Turn:
        """Label the texts of these rows, or as much as they stand for."""
        ...

    def close(self) -> None:
        """Give everything back; safe to call twice."""
        ...


@dataclass(frozen=True)
class Ratio:
    """How many times one part is as fast as another: of the totals, and between which bounds it lay from turn to turn."""

    value: float
    low: float
    high: float


def take_turns(parts: Sequence[Part], n: int, n_per_turn: int, progress: Progress | None = None) -> dict[str, list[Turn]]:
    """The turns of every part, by its name. They go in order, then in reverse: who follows whom changes from turn to turn.

    Args:
        n: texts; each part labels all of them.
        n_per_turn: texts of one turn.
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
    """Of all turns."""
    return sum(turn.seconds for turn in turns)


def tokens_per_s(turns: Sequence[Turn]) -> float:
    """Over all turns."""
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
