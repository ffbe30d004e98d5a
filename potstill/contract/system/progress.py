"""How far long work is, told to whoever watches: the bar of a command, or nobody.

Embedding texts and answering them stand deep below many commands. They tell the watcher of their own thread's context, as a logger
would, so that the functions between need no argument for it. What watches is set by `watched_by` alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Watcher = Callable[[str, int, int], None]  # (stage, done, total); the total is 0 where nothing is counted

ANSWER_TEXTS = "answer texts"  # a stage of all that answers a file with a bundle
SECONDS_BETWEEN_COUNTS = 0.1  # a fast student answers thousands of texts a second

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Tell this watcher of the work inside, in this thread, in place of one that is set already."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def tell_progress(stage: str, done: int = 0, total: int = 0) -> None:
    """Tell the watcher, if there is one, how far a stage is.

    Args:
        stage: what is done, as a verb with its object: `embed texts`.
        done, total: of what the stage counts; without a total the stage is named alone, and ends where the next one is told.
    """
    if watcher := _watcher.get():
        watcher(stage, done, total)


def counted(items: Iterable[T], stage: str, total: int) -> Iterator[T]:
    """The items, while the watcher is told how many were taken: at the start, a few times a second, and at the end."""
    tell_progress(stage, 0, total)
    next_s = 0.0
    for done, item in enumerate(items, 1):
        now = time.monotonic()
        if now >= next_s or done == total:
            tell_progress(stage, done, total)
            next_s = now + SECONDS_BETWEEN_COUNTS
        yield item
