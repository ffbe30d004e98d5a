"""How the threads of llama.cpp and torch wait for each other: by spinning for a moment, then asleep.

Both compute with OpenMP. A thread that comes first to a barrier spins until the last one has come, with GNU's library for some
300,000 rounds, which is milliseconds. While another program runs, the thread that it waits for may be the one that has no core,
and the one that spins has it. Alone, threads come within microseconds of each other, so a short spin loses nothing.
"""

from __future__ import annotations

import os

GOMP_SPINS = "GOMP_SPINCOUNT"  # of GNU's OpenMP: rounds before a waiting thread sleeps
LLVM_BLOCKTIME = "KMP_BLOCKTIME"  # of LLVM's and Intel's: milliseconds before it does; 200 where nothing is said
POLICY = "OMP_WAIT_POLICY"  # the standard's own word, `active` or `passive`; it decides over both
SPINS, BLOCKTIME_MS = 10_000, 1


def sleep_soon() -> None:
    """Let OpenMP's threads sleep soon when they wait, in this process and its children, unless its environment says how they wait.

    The OpenMP libraries read this when they are loaded: call it before anything imports torch or llama_cpp.
    """
    if POLICY in os.environ:
        return
    os.environ.setdefault(GOMP_SPINS, str(SPINS))
    os.environ.setdefault(LLVM_BLOCKTIME, str(BLOCKTIME_MS))
