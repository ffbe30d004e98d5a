from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from potstill.contract.errors import UserError
from potstill.labeler.bench.turns import OwnProcess, Turn, speed_ratio, take_turns, time_ratio

pytestmark = pytest.mark.slow


class Counter:
    """A part that takes no time and notes when it was asked."""

    def __init__(self, name: str, calls: list) -> None:
        self.name, self.calls = name, calls

    def warm_up(self) -> None:
        pass

    def turn(self, rows: range) -> Turn:
        self.calls.append((self.name, rows))
        return Turn(1.0, len(rows))

    def close(self) -> None:
        pass


def test_every_part_gets_every_text_and_the_order_turns_round():
    calls, shown = [], []
    turns = take_turns([Counter("a", calls), Counter("b", calls)], 5, 2, lambda *step: shown.append(step))
    first, second, third = range(2), range(2, 4), range(4, 5)
    assert calls == [("a", first), ("b", first), ("b", second), ("a", second), ("a", third), ("b", third)]
    assert turns == {name: [Turn(1.0, 2), Turn(1.0, 2), Turn(1.0, 1)] for name in "ab"}
    assert shown[0] == ("bench", 2, 10) and shown[-1] == ("bench", 10, 10)


def test_a_ratio_is_of_the_totals_with_its_range():
    turns = {"slow": [Turn(4.0, 1), Turn(6.0, 1)], "fast": [Turn(1.0, 1), Turn(4.0, 1)]}
    ratio = time_ratio(turns, "slow", "fast")
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 1.5, 4.0)


def test_a_turn_without_tokens_counts_in_the_totals_only():
    turns = {"part": [Turn(1.0, 10), Turn(1.0, 10)], "limit": [Turn(0.0, 0), Turn(1.0, 40)]}
    ratio = speed_ratio(turns, "part", "limit")
    assert (ratio.value, ratio.low, ratio.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("ratio", [time_ratio, speed_ratio])
def test_what_was_not_measured_has_no_ratio(ratio):
    assert ratio({"a": [Turn(1.0, 1)]}, "a", "b") is None
    assert ratio({"a": [Turn(1.0, 1)]}, "b", "a") is None


@dataclass
class Counting:
    """Tells its process and what it was asked."""

    name: str = "counting"
    n_warm_ups: int = 0

    def warm_up(self) -> None:
        self.n_warm_ups += 1

    def turn(self, rows: range) -> Turn:
        if rows.start == 13:
            raise UserError("no such text")
        if rows.start == 14:
            os._exit(3)
        return Turn(float(os.getpid()), self.n_warm_ups * 100 + len(rows))

    def close(self) -> None:
        pass


def refuse() -> Counting:
    raise UserError("there is no model")


def test_the_part_works_in_another_process_and_keeps_its_state_there():
    part = OwnProcess("counting", Counting)
    part.warm_up()
    part.warm_up()
    turn = part.turn(range(2, 5))
    assert turn.n_tokens == 203 and turn.seconds != os.getpid()
    assert part.turn(range(1)).seconds == turn.seconds
    part.close()
    part.close()


def test_what_the_part_refuses_is_refused_here_and_the_process_ends():
    with pytest.raises(UserError, match="^there is no model$"):
        OwnProcess("counting", refuse)
    part = OwnProcess("counting", Counting)
    with pytest.raises(UserError, match="^no such text$"):
        part.turn(range(13, 14))
    part.close()


def test_a_process_that_dies_is_named():
    part = OwnProcess("counting", Counting)
    with pytest.raises(UserError, match="^the process of part 'counting' ended with status 3$"):
        part.turn(range(14, 15))
