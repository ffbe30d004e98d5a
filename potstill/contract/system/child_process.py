"""The environment for a child process that runs our own modules."""

from __future__ import annotations

import os
from pathlib import Path

import potstill

_ROOT = Path(potstill.__file__).parents[1]  # the folder of the package


def environment() -> dict[str, str]:
    """This process's environment, with a PYTHONPATH on which a child finds the package that runs here, installed or not."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
