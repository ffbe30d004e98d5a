"""A wheel with one extra in an empty environment: pip asks an index there, so this runs only where it is asked for."""

import os
import re
import subprocess
import sys

import pytest
from support.tiny_bundle import write_bundle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("POTSTILL_INSTALL"), reason="installs from a package index: set POTSTILL_INSTALL=1"),
]


def test_serve_alone_installs_without_torch_and_answers_within_its_limits(repository, tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    command = [sys.executable, "benchmarks/promises/install.py", "--turns", "1", "--bundle", str(bundle), "--trim"]
    command += ["--constraint", ".ci/constraints.txt"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "served there without torch: first answer" in done.stdout
    sizes = {
        cells[1].strip(): float(cells[2])
        for line in done.stdout.splitlines()
        if len(cells := line.split("|")) == 5 and re.match(r" \d", cells[2])
    }
    assert {"potstill", "onnxruntime", "numpy", "uvicorn"} <= set(sizes) and not {"torch", "transformers", "scipy"} & set(sizes)
    assert sizes["potstill"] < 12 and sizes["all"] < 220  # MB, byte code included
    seconds = float(re.search(r"each turn: ([\d.]+)", done.stdout).group(1))
    assert seconds < 60  # a disk and a core of any speed; the figures are in docs/results.md
