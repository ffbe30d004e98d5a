"""How a stage ends when the system asks it to (SIGTERM): as it does for Ctrl-C, with its own exit code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from potstill.commands.console.errors import INTERRUPTED, TERMINATED


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Whoever ends well on a KeyboardInterrupt ends well on this."""


@contextmanager
def heeding_sigterm() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` inside the block, unless somebody has decided already what it does."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_code(error: BaseException | None) -> int:
    """The shell's code for what stopped the work: 128 and the signal's number."""
    while error is not None:
        if isinstance(error, Terminated):
            return TERMINATED
        error = error.__cause__
    return INTERRUPTED


def _raise(_number: int, _frame: object) -> NoReturn:
    """The signal's handler."""
    raise Terminated
