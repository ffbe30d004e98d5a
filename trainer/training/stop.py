"""Ctrl-C and SIGTERM while a student is trained: noted, and heeded after the step, so that nothing that was learned is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

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
