"""The prepared folder that the pages and the notebooks are read in."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents.world import write_world


@pytest.fixture(scope="session")
def world(made_once, tiny_models) -> Path:
    """`models/` with the tiny models and their catalog, and `reader/`; nobody may change it."""
    return made_once("documents_world", lambda folder: write_world(folder, tiny_models["dense"]))
