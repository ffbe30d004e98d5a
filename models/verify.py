"""Checking that a model on this machine is whole and is the one it should be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.models import gguf, places
from potstill.models.catalog import Entry, encoder_weights, expected_digest, how_to_get, load_catalog, located


@dataclass(frozen=True)
class Verified:
    """A model whose files are whole."""

    name: str
    path: Path  # the GGUF, or the weights of a backbone
    sha256: str
    expected: str | None  # None: nobody has said what the SHA-256 should be

    def as_text(self) -> str:
        """`NAME: whole, SHA-256 as expected: ...`."""
        verdict = "SHA-256 as expected" if self.expected else "SHA-256, with nothing to compare it to"
        return f"{self.name}: whole; {verdict}: {self.sha256}"


def verify(name_or_path: str) -> Verified:
    """Check structure and SHA-256 of a model of the catalog, of a GGUF file or of an encoder folder.

    Raises:
        UserError: if it is not known or not on this machine, or a file's SHA-256 is not the expected one.
        FormatError: if it is not whole.
    """
    entry = load_catalog().get(name_or_path)
    if entry is None:
        path = _main_file(Path(name_or_path))
        return Verified(name_or_path, path, digest.of_file(path), None)
    folder = located(entry)
    expected = places.recorded_sums(folder) | ({entry.file: entry.sha256} if entry.sha256 else {})
    sums = {file: digest.of_file(folder / file) for file in entry.files}
    for file, found in sums.items():
        if (wanted := expected.get(file)) and found != wanted:
            raise UserError(_changed(entry, folder / file, found, wanted))
    path = _main_file(folder / entry.file if entry.kind == "teacher" else folder)
    return Verified(name_or_path, path, sums[entry.file], expected_digest(entry, folder))


def _changed(entry: Entry, path: Path, found: str, wanted: str) -> str:
    """The line about a file that is not what it was."""
    return f"{path}: SHA-256 is {found[:12]}…, expected {wanted[:12]}…; delete the file, then {how_to_get(entry)}"


def _main_file(path: Path) -> Path:
    """The file whose digest names the model; raises FormatError if the model is not whole."""
    if path.is_dir():
        return encoder_weights(path)
    gguf.read_header(path)
    return path
