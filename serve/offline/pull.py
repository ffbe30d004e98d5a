"""Pull a bundle from the Hugging Face hub into a folder, where it is verified before it takes its place: `potstill pull`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from potstill.contract.bundle import MANIFEST_FILE
from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.serve.offline.verify import VerifyReport, verify
from potstill.serve.runtime.hub import HubSource, copy_to, download


@dataclass(frozen=True)
class PullReport:
    """The bundle that was pulled."""

    folder: Path
    source: HubSource
    commit: str
    verified: VerifyReport
    card_edited: bool  # on the hub, after the push

    def as_text(self) -> str:
        """One line, or two."""
        found = self.verified
        lines = [
            f"{self.folder}: {self.source.name} at {self.commit[:12]}; {found.n_files} files, {found.signature}, {found.n_golden} "
            f"golden texts, largest change of a probability {found.change:.2g}"
        ]
        if self.card_edited:
            lines.append("its card was edited on the hub after the push, so its sum is new, and a signature was left out")
        return "\n".join(lines)


def pull(source: HubSource, folder: str | Path, key: str | Path | None = None, *, trust: bool = False) -> PullReport:
    """Download a bundle, verify it, and write it into a folder; nothing is there before all of it is.

    Args:
        source: the repository.
        folder: where to write; a bundle that is there is replaced.
        key: public key of whoever must have signed it; None: a signature is only mentioned.
        trust: accept operators and tokenizer parts that no export writes, and graphs that ask for a lot of memory.
    Raises:
        FormatError, UserError: as :func:`potstill.serve.runtime.hub.download`; also if the bundle is not sound, or the folder holds
            something else or cannot be written.
    """
    folder = Path(folder)
    if folder.is_dir() and not (folder / MANIFEST_FILE).is_file() and any(folder.iterdir()):
        raise UserError(f"{folder}: is a folder with other files; name a bundle or a new folder")
    found = download(source)
    with atomic.folder(folder) as staging:
        edited = copy_to(found, staging)
        report = verify(staging, key, trust=trust)
        if report.problems:
            problem = report.problems[0].replace(str(staging), source.name)
            raise UserError(f"{problem}; nothing was written")
    return PullReport(folder, source, found.commit, report, edited)
