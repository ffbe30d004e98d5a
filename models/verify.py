"""Verify that a model on this machine is complete and has the expected SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.models import gguf
from potstill.models.catalog import Entry, expected_digest, how_to_get, load_catalog, located, recorded_sums
from potstill.models.encoder import find_weights


@dataclass(frozen=True)
class VerifiedModel:
    """A model whose files are complete."""

    name: str
    path: Path  # the GGUF, or the weights of a backbone; of weights in shards, their index
    sha256: str
    expected: str | None  # SHA-256 of the catalog or the first fetch; None: unknown

    def as_text(self) -> str:
        """`NAME: complete; SHA-256 as expected: ...`."""
        verdict = "SHA-256 as expected" if self.expected else "SHA-256, with nothing to compare it to"
        return f"{self.name}: complete; {verdict}: {self.sha256}"


def verify(name_or_path: str) -> VerifiedModel:
    """Check structure and SHA-256 of a model of the catalog, a GGUF file or an encoder folder.

    Raises:
        UserError: if it is unknown or not on this machine, or a file has an unexpected SHA-256.
        FormatError: if it is incomplete.
    """
    entry = load_catalog().get(name_or_path)
    if entry is None:
        path, sha256 = _main_file(Path(name_or_path))
        return VerifiedModel(name_or_path, path, sha256, None)
    folder = located(entry)
    expected = recorded_sums(folder) | ({entry.file: entry.sha256} if entry.sha256 else {})
    sums = {file: digest.of_file(folder / file) for file in entry.files}
    for file, found in sums.items():
        if (wanted := expected.get(file)) and found != wanted:
            raise UserError(_changed(entry, folder / file, found, wanted))
    path, _ = _main_file(folder / entry.file if entry.kind == "teacher" else folder)
    return VerifiedModel(name_or_path, path, sums[entry.file], expected_digest(entry, folder))


def _changed(entry: Entry, path: Path, found: str, wanted: str) -> str:
    """The message about a file with an unexpected SHA-256."""
    return f"{path}: SHA-256 is {found[:12]}…, expected {wanted[:12]}…; delete the file, then {how_to_get(entry)}"


def _main_file(path: Path) -> tuple[Path, str]:
    """The file that identifies the model, and the digest of the weights; raises FormatError if the model is incomplete."""
    if path.is_dir():
        weights = find_weights(path)
        return weights.file, weights.sha256()
    return path, gguf.sha256(path)
