"""Memory of a process, in bytes: resident now and at its peak, or held by itself; and how to give back what is free."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from pathlib import Path

PROC = Path("/proc")


def resident_bytes(process: int | str = "self", proc: Path = PROC) -> int:
    """Memory of a process that is in RAM now; without a proc file system, the peak of this process.

    Args:
        process: its id; `self` is this process.
        proc: where the proc file system is mounted.
    """
    try:
        pages = int((proc / str(process) / "statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError):
        return peak_resident_bytes(proc)
    return pages * os.sysconf("SC_PAGE_SIZE")


def own_bytes(process: int, proc: Path = PROC) -> int | None:
    """Memory that a process holds itself, in RAM or swapped out; mapped files, which the system may drop, do not count.

    Args:
        process: its id.
        proc: where the proc file system is mounted.
    Returns:
        Bytes; None if there is no such process, or the system does not say.
    Source: proc_pid_status(5).
    """
    try:
        lines = (proc / str(process) / "status").read_text(encoding="ascii", errors="replace").splitlines()
        found = [int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:", "VmSwap:"))]
    except (OSError, ValueError, IndexError):
        return None
    return sum(found) * 1024 if found else None


def peak_resident_bytes(proc: Path = PROC) -> int:
    """The most memory that this process ever had in RAM.

    On Linux it is read from the proc file system: there, `ru_maxrss` also counts the process image that `exec` replaced.
    """
    try:
        lines = (proc / "self" / "status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return max_rss_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, sys.platform)


def max_rss_bytes(ru_maxrss: int, platform: str) -> int:
    """Convert `ru_maxrss`, in bytes on macOS and in KiB on Linux and the BSDs, to bytes.

    Source: getrusage(2) of macOS, Linux and FreeBSD.
    """
    return ru_maxrss if platform == "darwin" else ru_maxrss * 1024


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library can. glibc keeps it, in each thread's own arena.

    Source: malloc_trim(3).
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)
