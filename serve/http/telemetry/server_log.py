"""The server's log: lines on stderr. Whatever becomes of them, requests are answered; no line holds a text or a key."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

STDERR = 2


class Journal:
    """Writes lines; those that cannot be written, on a full disk for example, are lost and counted."""

    def __init__(self, descriptor: int = STDERR, when_lost: Callable[[], None] | None = None) -> None:
        """Args: where the lines go; what is called when one could not be written."""
        self._descriptor, self._when_lost = descriptor, when_lost

    def line(self, text: str) -> None:
        """Write one line, at once and whole."""
        try:
            os.write(self._descriptor, (" ".join(text.split()) + "\n").encode(errors="replace"))
        except OSError:
            if self._when_lost is not None:
                self._when_lost()

    def bug(self, where: str) -> None:
        """Write where the exception that is being handled came from. Its message stays out: it might quote a text."""
        kind, _, trace = sys.exc_info()
        frames = "; ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace))
        self.line(f"bug: {where}: {kind.__name__ if kind else 'unknown'} at {frames}")
