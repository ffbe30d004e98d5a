"""onnxruntime-web and Node for the tests of bundles in a page, where they are at hand."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from potstill.export.layouts.web.runtime import KNOWN, VARIABLE

ARCHIVE = Path.home() / ".cache" / "potstill" / "web" / f"onnxruntime-web-{KNOWN}.tgz"  # where `.ci/web_runtime` leaves it
MISSING = f"onnxruntime-web is not here: .ci/web_runtime fetches it, or name it in {VARIABLE}"


def web_runtime():
    """The place of onnxruntime-web; None if it is not here."""
    if place := os.environ.get(VARIABLE):
        return place
    return str(ARCHIVE) if ARCHIVE.is_file() else None


def needed_web_runtime():
    """The place of onnxruntime-web; without it the test is skipped."""
    return web_runtime() or pytest.skip(MISSING)


def node(script, *arguments, folder=None):
    """What a script of Node prints; without Node the test is skipped."""
    program = shutil.which("node") or pytest.skip("there is no Node here")
    done = subprocess.run([program, "-e", script, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
