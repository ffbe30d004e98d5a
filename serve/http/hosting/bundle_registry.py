"""The bundles of a server by name, and the reload of one whose folder has a new version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from potstill.contract.errors import UserError
from potstill.serve.http.config import BundleSpec
from potstill.serve.http.hosting.open_bundle import HostedBundle, sums_digest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # part of URLs


class BundleRegistry:
    """The bundle versions that answer now; read and replaced in the event loop's thread only."""

    def __init__(self, hosted: list[HostedBundle]) -> None:
        """Args: hosted, at least one, with different names; the first one answers requests that name none."""
        self._by_name = {one.name: one for one in hosted}

    @classmethod
    def open(cls, specs: list[BundleSpec]) -> BundleRegistry:
        """Open and check all bundles.

        Raises:
            FormatError: if a bundle is malformed.
            UserError: if golden texts get other answers here, or two bundles share a name.
        """
        hosted: list[HostedBundle] = []
        for one in specs:
            opened = HostedBundle.open(one.folder, one.name)
            if not NAME.fullmatch(opened.name):
                raise UserError(
                    f"{one.folder}: the name {opened.name!r} cannot be part of a URL; choose one of letters, digits and . _ - "
                    f"with: NAME={one.folder}"
                )
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
    outcome: Literal["unchanged", "replaced", "refused"]
    line: str  # for the log
    hosted: HostedBundle | None = None  # the new version


def reload(current: HostedBundle) -> ReloadResult:
    """Open and check the folder's new version, if it has one; if that fails, the current version stays.

    Call it in a thread: reading and checking a bundle takes a while.
    """
    try:
        if sums_digest(current.folder) == current.digest:
            return ReloadResult(current.name, "unchanged", f"{current.name}: still version {current.version}")
        hosted = HostedBundle.open(current.folder, current.name)
    except (UserError, OSError) as error:
        return ReloadResult(current.name, "refused", f"{current.name}: keeps version {current.version}: {error}")
    line = f"{current.name}: version {hosted.version} replaces {current.version}"
    return ReloadResult(current.name, "replaced", line, hosted)
