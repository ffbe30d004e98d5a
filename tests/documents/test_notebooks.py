"""The notebooks of examples/ run from their first cell to their last, in a real kernel, with few texts and tiny models."""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest
from documents.blocks import ROOT

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted(path for path in (ROOT / "examples" / "notebooks").glob("*.py") if "# %%" in path.read_text(encoding="utf-8"))
START = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import warnings; warnings.simplefilter("ignore", DeprecationWarning)
%matplotlib inline
from potstill.models import catalog
catalog.CATALOG_FILE = Path({catalog!r})
"""
SIZES = re.compile(r"^n_texts, n_gold = \d+, \d+", re.M)
FEWER = "n_texts, n_gold = 60, 40"
PATIENCE_S = 120


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def finished(request, world: Path, tmp_path, monkeypatch) -> nbformat.NotebookNode:
    monkeypatch.setenv("POTSTILL_MODELS", str(world / "models"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = jupytext.read(request.param)
    assert sum(len(SIZES.findall(cell.source)) for cell in notebook.cells) == 1
    for cell in notebook.cells:
        cell.source = SIZES.sub(FEWER, cell.source)
    notebook.cells.insert(
        0, nbformat.v4.new_code_cell(START.format(root=str(ROOT), catalog=str(world / "models" / "catalog.toml")))
    )
    client = nbclient.NotebookClient(notebook, timeout=PATIENCE_S, resources={"metadata": {"path": str(tmp_path)}})
    return client.execute()


def test_a_notebook_runs_and_shows_tables_bars_and_plots(finished):
    outputs = [output for cell in finished.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data for output in outputs if output.output_type in ("display_data", "execute_result")]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    assert sum("image/png" in data for data in shown) >= 1
    pages = [data["text/html"] for data in shown if "text/html" in data]
    assert sum("<progress" in page for page in pages) >= 3, "label, distill and export each have a bar"
    assert sum("<table" in page for page in pages) >= 3
