"""Where models lie on this machine: the cache folder, files inside installed packages, and the sums recorded at the first fetch."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from potstill.contract.files import atomic, decode

SUMS_FILE = "SHA256SUMS"
_SUM_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")


def cache_folder() -> Path:
    """Where fetched and re-packed models are kept: POTSTILL_MODELS, or potstill/models in the user's cache folder."""
    if named := os.environ.get("POTSTILL_MODELS"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "potstill" / "models"


def package_folder(module: str, folder: str) -> Path | None:
    """A folder inside an installed package, found without importing the package; None if it is not installed."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / folder


def recorded_sums(folder: Path) -> dict[str, str]:
    """SHA-256 by file name, as recorded at the first fetch into the folder; empty if nothing was."""
    path = folder / SUMS_FILE
    if not path.is_file():
        return {}
    matches = (_SUM_LINE.fullmatch(line) for line in decode.utf8(path, decode.read_bytes(path)).splitlines())
    return {match[2]: match[1] for match in matches if match}


def record_sums(folder: Path, sums: dict[str, str]) -> None:
    """Add to what is recorded for the folder; what is recorded already stays. `sha256sum -c SHA256SUMS` reads it too."""
    merged = sums | recorded_sums(folder)
    atomic.write_file(folder / SUMS_FILE, "".join(f"{merged[name]}  {name}\n" for name in sorted(merged)).encode())
