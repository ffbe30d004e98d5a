"""A part of the benchmark in a process of its own.

Two parts in one process share its OpenMP runtime: where one decodes in another thread than the other, there are two teams for the
same cores, and a runtime that counts more threads than cores lets them wait asleep instead of ready.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from potstill.contract.errors import UserError
from potstill.labeler.bench.turns import Part, Turn


class OwnProcess:
    """Stands for a part that lives in a fresh process; what it raises as a UserError is raised here."""

    def __init__(self, name: str, make: Callable[[], Part]) -> None:
        """Start the process. Args: make, picklable, is called in it."""
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_work, args=(far_end, make), daemon=True)
        self._process.start()
        far_end.close()
        self._answer()

    def warm_up(self) -> None:
        """As the part does."""
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
        """What the process says next."""
        try:
            answer = self._pipe.recv()
        except EOFError:
            self.close()
            raise UserError(f"the process of part {self.name!r} ended with status {self._process.exitcode}") from None
        if isinstance(answer, UserError):
            self.close()
            raise UserError(str(answer))
        return answer


def _work(pipe: Connection, make: Callable[[], Part]) -> None:
    """Make the part and do what is asked until the other end is closed."""
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


def _do(part: Part, rows: range | None) -> Turn | None:
    """A turn, or the warm-up where there are no rows."""
    if rows is None:
        part.warm_up()
        return None
    return part.turn(rows)
