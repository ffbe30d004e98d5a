"""How threads wait for each other."""

from __future__ import annotations

import os

WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SPINS = 10_000


def sleep_soon() -> None:
    """Let OpenMP's threads sleep soon."""
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
