"""Denormal numbers (below 1e-38 in float32), which many CPUs add and multiply a hundred times slower: zero within a run alone.

Whether they are taken as zero is a setting of the thread, which new threads inherit. onnxruntime makes it for good in the thread
that opens the first session of a process; here it is made for a run and then set back, so that a program's own arithmetic stays as
it is. Sources: Intel SDM 1, 10.2.3 (MXCSR: FTZ is bit 15, DAZ bit 6); Arm DDI 0487 (FPCR: FZ is bit 24); glibc's bits/fenv.h for
the places of the two registers in fenv_t.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_Environment = ctypes.c_uint32 * 8  # fenv_t: 32 bytes on x86-64, 8 on aarch64
_PLACES = {"x86_64": (7, 1 << 15 | 1 << 6), "aarch64": (0, 1 << 24)}  # by machine: the word of the register, its bits


def _functions() -> tuple[Callable[..., int], Callable[..., int]] | None:
    """fegetenv and fesetenv of the C library; None where the layout of their argument is not known."""
    if sys.platform != "linux" or platform.machine() not in _PLACES:
        return None
    try:
        library = ctypes.PyDLL("libm.so.6")  # keeps the interpreter's lock: the calls take nanoseconds
        return library.fegetenv, library.fesetenv
    except (OSError, AttributeError):
        return None


_FUNCTIONS = _functions()
_WORD, _BITS = _PLACES.get(platform.machine(), (0, 0))


def with_denormals_as_zero(run: Callable[..., T], *args: object) -> T:
    """What `run(*args)` returns, called with denormals as zero in this thread; afterwards the thread is as it was."""
    if _FUNCTIONS is None:
        return run(*args)
    get, put = _FUNCTIONS
    environment = _Environment()
    get(environment)
    before = environment[_WORD]
    if before & _BITS == _BITS:
        return run(*args)
    environment[_WORD] = before | _BITS
    put(environment)
    try:
        return run(*args)
    finally:
        environment[_WORD] = before
        put(environment)


@contextmanager
def thread_left_as_it_was() -> Iterator[None]:
    """Undo what the block changes in how this thread computes, such as opening a session does."""
    if _FUNCTIONS is None:
        yield
        return
    get, put = _FUNCTIONS
    before = _Environment()
    get(before)
    try:
        yield
    finally:
        put(before)
