"""Work that takes minutes, in a thread beside the pages, and how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from potstill.contract.errors import UserError

R = TypeVar("R")
Advance = Callable[[int, int], None]  # takes (paths drawn, paths in all)


class BackgroundJob(Generic[R]):
    """One piece of work. The thread ends with the process: what the work stores must survive that."""

    def __init__(self, work: Callable[[Advance], R]) -> None:
        """Start nothing yet. Args: work, which is called with a function that it tells its progress."""
        self._work = work
        self._thread = threading.Thread(target=self._run, name="review-job", daemon=True)
        self.state: Literal["running", "done", "failed"] = "running"
        self.n_done, self.n_total = 0, 0
        self.problem = ""  # why it failed, for a person
        self.result: R | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for its end, at most that many seconds."""
        self._thread.join(timeout_s)

    def _advance(self, n_done: int, n_total: int) -> None:
        """Note the progress."""
        self.n_done, self.n_total = n_done, max(n_done, n_total)

    def _run(self) -> None:
        """Do the work, and keep what comes of it."""
        try:
            self.result = self._work(self._advance)
            self.state = "done"
        except UserError as error:
            self.problem, self.state = str(error), "failed"
        except BaseException:
            self.problem, self.state = "an internal error ended it; see the terminal", "failed"
            raise
