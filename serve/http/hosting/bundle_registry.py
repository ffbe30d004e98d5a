"""The bundles of a server by name, and the reload of one whose folder has a new version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from potstill.contract.bundle import BundleFiles, read_files, sums_digest
from potstill.contract.errors import UserError
from potstill.serve.http.config import BundleSpec
from potstill.serve.http.hosting.open_bundle import HostedBundle

MAX_NAME_CHARS = 100
_IN_NO_NAME = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # everything else can be escaped in a URL


class BundleRegistry:
    """The bundle versions that answer now; read and replaced in the event loop's thread only."""

    def __init__(self, hosted: list[HostedBundle]) -> None:
        """Args: hosted, at least one, with different names; the first one answers requests that name none."""
        self._by_name = {one.name: one for one in hosted}

    @classmethod
    def open(cls, specs: list[BundleSpec], files: list[BundleFiles] | None = None) -> BundleRegistry:
        """Open and check all bundles.

        Args:
            specs: folders and names.
            files: what was read of the folders, in this order; None: they are read now.
        Raises:
            FormatError: if a bundle is malformed.
            UserError: if golden texts get other answers here, or two bundles share a name.
        """
        hosted: list[HostedBundle] = []
        for index, one in enumerate(specs):
            opened = HostedBundle.from_files(read_files(one.folder, one.trust) if files is None else files[index], one.name)
            _check_name(opened.name, one.folder)
            if opened.name in [other.name for other in hosted]:
                raise UserError(
                    f"{one.folder}: the name {opened.name!r} is taken by another bundle; choose one with: NAME={one.folder}"
                )
            hosted.append(opened)
        return cls(hosted)

    @property
    def all(self) -> list[HostedBundle]:
        """All bundles, in the order of the command line."""
        return list(self._by_name.values())

    def get(self, name: str | None) -> HostedBundle | None:
        """The bundle of that name, None if there is none; the first bundle if name is None."""
        return next(iter(self._by_name.values())) if name is None else self._by_name.get(name)

    def put(self, hosted: HostedBundle) -> None:
        """Replace the version of a bundle, from the next request on."""
        self._by_name[hosted.name] = hosted


@dataclass(frozen=True)
class ReloadResult:
    """Result of the check for a new version."""

    name: str
    outcome: Literal["unchanged", "replaced", "refused", "failed"]
    line: str  # for the log
    hosted: HostedBundle | None = None  # the new version


def reload(current: HostedBundle, files: BundleFiles | None = None) -> ReloadResult:
    """Open and check the folder's new version, if it has one; if that fails, the current version stays.

    Call it in a thread: reading and checking a bundle takes a while.

    Args:
        current: the version that answers.
        files: the new version, if it was read; None: the folder is read now.
    """
    try:
        if files is None and sums_digest(current.folder) == current.digest:
            return unchanged(current.name, current.version)
        hosted = HostedBundle.from_files(files or read_files(current.folder, current.trust), current.name)
    except (UserError, OSError) as error:
        return refused(current.name, current.version, error)
    line = f"{current.name}: version {hosted.version} replaces {current.version}"
    return ReloadResult(current.name, "replaced", line, hosted)


def unchanged(name: str, version: str) -> ReloadResult:
    """The result for a folder without a new version."""
    return ReloadResult(name, "unchanged", f"{name}: still version {version}")


def refused(name: str, version: str, error: BaseException) -> ReloadResult:
    """The result for a new version that cannot be opened. An error that nobody foresaw is named by its type alone."""
    if isinstance(error, UserError | OSError):
        return ReloadResult(name, "refused", f"{name}: keeps version {version}: {error}")
    problem = f"the new version cannot be opened ({type(error).__name__}); try it with: potstill verify"
    return ReloadResult(name, "failed", f"{name}: keeps version {version}: {problem}")


def is_name(name: str) -> bool:
    """Tell whether a bundle can be served under a name, as a part of URLs, escaped where needed."""
    return 0 < len(name) <= MAX_NAME_CHARS and not _IN_NO_NAME.search(name) and name == name.strip() and name not in (".", "..")


def _check_name(name: str, folder: Path) -> None:
    """Check that a name can be part of a URL, escaped where needed; raises UserError."""
    if not is_name(name):
        raise UserError(
            f"{folder}: the name {name[:MAX_NAME_CHARS]!r} cannot be part of a URL; choose one of 1 to {MAX_NAME_CHARS} characters "
            f"without slashes and control characters with: NAME={folder}"
        )
