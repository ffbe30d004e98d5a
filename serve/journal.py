"""The server's log: lines on stderr. Whatever becomes of them, requests are answered; no line holds a text or a key."""

from __future__ import annotations

import os
import sys
import traceback

STDERR = 2


class Journal:
    """Writes lines, and counts those that could not be written, on a full disk for example."""

    def __init__(self, descriptor: int = STDERR) -> None:
        """Args: where the lines go."""
        self._descriptor = descriptor
        self.n_lost = 0

    def line(self, text: str) -> None:
        """Write one line, at once and whole."""
        try:
            os.write(self._descriptor, (" ".join(text.split()) + "\n").encode(errors="replace"))
        except OSError:
            self.n_lost += 1

    def bug(self, where: str) -> None:
        """Write where the exception that is being handled came from. Its message stays out: it might quote a text."""
        kind, _, trace = sys.exc_info()
        frames = "; ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace))
        self.line(f"bug: {where}: {kind.__name__ if kind else 'unknown'} at {frames}")
