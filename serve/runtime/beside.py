"""Work in a thread of its own, for what keeps a core busy without holding Python's lock, such as a run of the graph."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Beside(Generic[T]):
    """A call that runs beside its caller from now on; its result is asked for later.

    A future of `concurrent.futures` would do the same, but importing those takes 5 ms, most of it for `logging`, and this
    stands between the start of a process and its first answer.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        """Start the work."""
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="beside")
        self._thread.start()

    def result(self) -> T:
        """What the work returned, once it is done; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        """The thread's life; no error is lost, each one is raised by :meth:`result`."""
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001 - handed over, not swallowed
            self._error = error
