"""Map another file's or model's label names to the student's, and its probabilities with them.

Axes: N texts, S labels of the student, F labels of another classifier, C labels that are scored.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError


@dataclass(frozen=True)
class LabelMap:
    """A map from names to labels of the student; a name without an entry stands for the label of that name, ignoring case."""

    labels: tuple[str, ...]  # the student's, in output order
    entries: Mapping[str, str] = field(default_factory=dict)  # name -> label; an empty label leaves the name out

    @property
    def scored(self) -> list[str]:
        """The scored labels, in output order: all except those that are left out and that no other name stands for."""
        dropped = {_find(name, self.labels) for name, label in self.entries.items() if not label}
        return [label for label in self.labels if label not in dropped or label in self.entries.values()]

    def resolve(self, names: Iterable[str], where: str) -> dict[str, str]:
        """The label that each name stands for, empty if the name is left out.

        Args:
            names: the labels of one file or classifier.
            where: that file or classifier, for messages.
        Raises:
            UserError: for a name that stands for no label, or for names that differ in case only and match the same entry.
        """
        found = {}
        alike = defaultdict(list)
        for name in dict.fromkeys(names):
            alike[_folded(name)].append(name)
        for group in alike.values():
            for name in group:
                key = _find(name, self.entries)
                fits = key if key is not None else _find(name, self.labels)
                if len(group) > 1 and fits != name:
                    both = " and ".join(repr(each) for each in group)
                    raise UserError(f"{where}: {both} differ in case only; map each by its exact name, with --map")
                if fits is None:
                    raise UserError(
                        f"{where}: {name!r} is not a label; allowed: {', '.join(self.labels)}; "
                        f"say what it stands for with --map '{name}=LABEL', or leave it out with --map '{name}='"
                    )
                found[name] = self.entries[fits] if key is not None else fits
        return found

    def check_used(self, names: Mapping[str, Iterable[str]]) -> None:
        """Raise UserError for an entry whose name does not occur. Args: names by the file or classifier that they come from."""
        known = [*self.labels, *(name for each in names.values() for name in each)]
        for name in self.entries:
            if _folded(name) not in map(_folded, known):
                listed = "; ".join(f"{where} has {', '.join(sorted(each))}" for where, each in names.items())
                raise UserError(f"map: no label is named {name!r}; {listed}; the student has {', '.join(self.labels)}")

    def own(self, probs: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
        """Restrict the student's answers to the scored labels.

        Args:
            probs: float [N, S], rows sum to 1.
        Returns:
            (float64 [N, C], rows sum to 1; number of rows without probability for any scored label, which become even shares).
        """
        return _renormalised(probs[:, [self.labels.index(label) for label in self.scored]])

    def foreign(self, probs: NDArray[np.float64], names: list[str], where: str) -> tuple[NDArray[np.float64], int]:
        """Move another classifier's answers to the scored labels; names that stand for the same label add up.

        Args:
            probs: float [N, F], rows sum to 1.
            names: [F], its labels.
            where: as in :meth:`resolve`.
        Returns:
            as :meth:`own`.
        Raises:
            UserError: as :meth:`resolve`.
        """
        stands_for = self.resolve(names, where)
        scored = self.scored
        moved = np.zeros((len(names), len(scored)))  # [F, C]
        for i, name in enumerate(names):
            if stands_for[name] in scored:
                moved[i, scored.index(stands_for[name])] = 1
        return _renormalised(probs @ moved)


def parse_label_map(entries: Iterable[str], labels: list[str]) -> LabelMap:
    """Parse a map such as `positive=bullish,neutral=`.

    Args:
        entries: each one or several NAME=LABEL, separated by commas; nothing after `=` leaves NAME out. Names and labels may have
            commas and equals signs of their own: an entry ends where the longest label that fits does.
        labels: the student's, in output order.
    Raises:
        UserError: if an entry has no name, no `=` or an unknown label, a name is repeated, or fewer than two labels remain.
    """
    parsed: dict[str, str] = {}
    for each in entries:
        rest: str | None = each
        while rest is not None:
            name, label, rest = _first_entry(rest, labels)
            if name in parsed:
                raise UserError(f"map: repeats the name {name!r}; keep one of the two")
            parsed[name] = label
    label_map = LabelMap(tuple(labels), parsed)
    if len(label_map.scored) < 2:
        left = ", ".join(label_map.scored) or "none"
        raise UserError(f"map: leaves fewer than two labels to score ({left}); leave out less")
    return label_map


def _first_entry(text: str, labels: list[str]) -> tuple[str, str, str | None]:
    """(name, label or "", what follows the comma behind it: None at the end) of the first entry; raises UserError if it is none."""
    for equals in re.finditer("=", text):
        name, after = text[: equals.start()].strip(), text[equals.end() :]
        if not name or "=" in name.rpartition(",")[0]:  # of two entries, the first of which is wrong
            continue
        matches = [re.match(rf"\s*({re.escape(label)}|)\s*(?:,|\Z)", after, re.IGNORECASE) for label in labels]
        longest = max(filter(None, matches), key=re.Match.end, default=None)
        known = None if longest is None else _find(longest[1], labels) if longest[1] else ""
        if longest is not None and known is not None:
            return name, known, after[longest.end() :] if longest[0].endswith(",") else None
    entry, allowed = text.split(",")[0].strip(), ", ".join(labels)
    name = entry.rpartition("=")[0].strip()
    if not name:
        raise UserError(f"map: {entry!r} is not NAME=LABEL, or NAME= to leave NAME out; the labels are {allowed}")
    raise UserError(f"map: {entry!r} does not end with a label; allowed: {allowed}, or nothing to leave {name!r} out")


def _find(name: str, known: Iterable[str]) -> str | None:
    """The known name that equals this one, or the only one that differs in case only."""
    known = list(known)
    if name in known:
        return name
    alike = [each for each in known if _folded(each) == _folded(name)]
    return alike[0] if len(alike) == 1 else None


def _folded(name: str) -> str:
    """The name without its case."""
    return name.strip().casefold()


def _renormalised(mass: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """(rows scaled to sum to 1, number of rows that summed to 0). Args: mass float [N, C], at least 0."""
    total = mass.sum(axis=1, keepdims=True)
    empty = total[:, 0] <= 0
    probs = np.where(empty[:, None], 1 / mass.shape[1], mass / np.where(total > 0, total, 1))
    return probs, int(empty.sum())
