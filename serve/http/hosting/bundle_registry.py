"""The bundles of a server, by name, and how a new version takes the place of an old one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.serve.http.config import BundleSpec
from potstill.serve.http.hosting.hosted_bundle import HostedBundle, sums_digest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # it stands in addresses


class BundleRegistry:
    """The versions that answer now. They are looked up and replaced in the event loop's thread alone."""

    def __init__(self, hosted: list[HostedBundle]) -> None:
        """Args: hosted, at least one, each with a name of its own; the first one answers where no name is given."""
        self._by_name = {one.name: one for one in hosted}

    @classmethod
    def open(cls, wanted: list[BundleSpec]) -> BundleRegistry:
        """Open and prove them all.

        Raises:
            FormatError: if a bundle is malformed.
            UserError: if a bundle drifted, or two share a name.
        """
        hosted: list[HostedBundle] = []
        for one in wanted:
            opened = HostedBundle.open(one.folder, one.name)
            if not NAME.fullmatch(opened.name):
                raise UserError(
                    f"{one.folder}: the name {opened.name!r} cannot stand in an address; letters, digits and . _ - can, "
                    f"so give it one with: NAME={one.folder}"
                )
            if opened.name in [other.name for other in hosted]:
                raise UserError(f"{one.folder}: another one is called {opened.name!r} too; rename one with: NAME={one.folder}")
            hosted.append(opened)
        return cls(hosted)

    @property
    def all(self) -> list[HostedBundle]:
        """In the order they were given."""
        return list(self._by_name.values())

    def get(self, name: str | None) -> HostedBundle | None:
        """The bundle of that name, the first one without a name; None if there is none."""
        return next(iter(self._by_name.values())) if name is None else self._by_name.get(name)

    def put(self, hosted: HostedBundle) -> None:
        """Let another version answer from the next request on."""
        self._by_name[hosted.name] = hosted


@dataclass(frozen=True)
class Renewal:
    """What became of a look for a new version."""

    name: str
    outcome: str  # unchanged, replaced or refused
    line: str  # for the log
    hosted: HostedBundle | None = None  # the new version


def renew(current: HostedBundle, open_one: Callable[[Path, str], HostedBundle] = HostedBundle.open) -> Renewal:
    """Look whether the folder holds another version by now, and open and prove it; a worse one leaves all as it is.

    Call it in a thread: it reads and computes for a while.
    """
    try:
        if sums_digest(current.folder) == current.digest:
            return Renewal(current.name, "unchanged", f"{current.name}: still version {current.version}")
        hosted = open_one(current.folder, current.name)
    except (UserError, OSError) as error:
        return Renewal(current.name, "refused", f"{current.name}: stays at version {current.version}: {error}")
    line = f"{current.name}: version {hosted.version} answers instead of {current.version}"
    return Renewal(current.name, "replaced", line, hosted)
