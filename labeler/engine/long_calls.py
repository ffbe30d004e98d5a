"""Long calls into llama.cpp that Ctrl-C can end: they run in a thread of their own, and a flag makes llama.cpp give up.

While the main thread is inside C, Python cannot act on a signal: a decode of some hundred tokens of a large model would hold Ctrl-C
back for a minute, and one that comes while llama.cpp writes to its log would be lost.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")


class LongCalls:
    """One thread for calls into C, one after the other. Close it before what they work on is freed."""

    def __init__(self) -> None:
        """Start with the flag down."""
        self._thread = ThreadPoolExecutor(1, "llama.cpp")
        self.flag = ctypes.create_string_buffer(2)  # empty: go on; one character: give up

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """What the function returns. A KeyboardInterrupt raises the flag, waits for the function, and comes out."""
        future = self._thread.submit(function, *args)
        try:
            wait([future])
        except KeyboardInterrupt:
            self.flag[0] = b"!"
            wait([future])
            self.flag[0] = b"\0"
            raise
        return future.result()

    def close(self) -> None:
        """Wait for a call that a second KeyboardInterrupt left running; safe to call twice."""
        self.flag[0] = b"!"
        self._thread.shutdown()


def is_raised() -> int:
    """Address of a C function that takes the flag's address and says whether it is raised.

    It is libc's strlen: a Python function would have to take the interpreter's lock some hundred times in every decode.
    """
    return ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value or 0
