"""Progress in a notebook: one line under the cell, with a bar of HTML, that is written anew as the work goes on."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any

SECONDS_BETWEEN_UPDATES = 0.25


def is_notebook() -> bool:
    """Whether this program runs in the kernel of a notebook; a terminal's IPython is none."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell else None
    return running is not None and hasattr(running, "kernel")


def is_watched() -> bool:
    """Whether somebody sees a bar: on a terminal, or in a notebook."""
    return sys.stderr.isatty() or is_notebook()


class NotebookBar:
    """A bar under the cell that runs; it stays there when it is full."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._display: Any = None
        self._next = 0.0

    def show(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Write the line anew, at most a few times a second, and always at the end."""
        if time.monotonic() < self._next and done < total:
            return
        self._next = time.monotonic() + SECONDS_BETWEEN_UPDATES
        from IPython.display import HTML, display  # a notebook has loaded it; others need not have it

        line = f"{escape(stage)} <progress value='{done}' max='{max(total, 1)}'></progress> {done} of {total} {escape(note)}"
        if self._display is None:
            self._display = display(HTML(line), display_id=True)
        else:
            self._display.update(HTML(line))
