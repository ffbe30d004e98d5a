"""What to say of a place that is not the bundle or the checkpoint that a command wants: what it is instead, and what to name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from potstill.contract.errors import FormatError

Kind = Literal["bundle", "checkpoint"]
MARKS: dict[Kind, str] = {"bundle": "SHA256SUMS", "checkpoint": "student.json"}  # the file that such a folder cannot lack
_MAKERS: dict[Kind, str] = {"bundle": "potstill export", "checkpoint": "potstill train"}


def not_a(kind: Kind, place: Path) -> FormatError:
    """The error for a place that is none of the wanted kind."""
    return FormatError(place, "", f"is not a {kind}: {_found(kind, place)}")


def _found(kind: Kind, place: Path) -> str:
    """What is there, and what to do."""
    maker = _MAKERS[kind]
    if place.is_file():
        return f"it is a file; name the folder that {maker} wrote"
    if not place.is_dir():
        return f"there is no such folder; check the path, or make one with: {maker}"
    if kind == "bundle" and (place / MARKS["checkpoint"]).is_file():
        return f"it is a checkpoint; make a bundle of it with: potstill export {place} BUNDLE"
    if kind == "checkpoint" and (place / MARKS["bundle"]).is_file():
        return "it is a bundle; name the checkpoint that it was exported from"
    lacks = f"it has no {MARKS[kind]}"
    inside = _first_inside(kind, place)
    return f"{lacks}; make one with: {maker}" if inside is None else f"{lacks}; name the one in it: {inside}"


def _first_inside(kind: Kind, place: Path) -> Path | None:
    """The first folder of the wanted kind in a folder, as in that of a project; None: it has none, or cannot be listed."""
    try:
        return next((one for one in sorted(place.iterdir()) if (one / MARKS[kind]).is_file()), None)
    except OSError:
        return None
