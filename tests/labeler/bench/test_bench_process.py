from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from potstill.contract.errors import UserError
from potstill.labeler.bench.bench_process import OwnProcess
from potstill.labeler.bench.turns import Turn


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
