"""The environment of a Python process that runs our own modules."""

from __future__ import annotations

import os
from pathlib import Path

import potstill

_ROOT = Path(potstill.__file__).parents[1]  # where the package lies


def environment() -> dict[str, str]:
    """This process's environment, in which a child finds the very package that this process runs, installed or not."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
