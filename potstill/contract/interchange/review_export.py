"""Write soft labels for other tools: for review in Label Studio or Argilla, or as plain tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic, spreadsheet
from potstill.contract.interchange import argilla, flat_labels, label_studio
from potstill.contract.interchange.annotation import AnnotationGuide
from potstill.contract.soft_label import SoftLabel

ReviewFormat = Literal["label-studio", "argilla", "jsonl", "csv", "xlsx", "parquet", "datasets"]
ReviewOrder = Literal["uncertainty", "id"]
REVIEW_FORMATS: tuple[str, ...] = get_args(ReviewFormat)
REVIEW_ORDERS: tuple[str, ...] = get_args(ReviewOrder)
_SUFFIXES = {
    "label-studio": ".json",
    "argilla": ".json",
    "jsonl": ".jsonl",
    "csv": ".csv",
    "xlsx": ".xlsx",
    "parquet": ".parquet",
}


@dataclass(frozen=True)
class ReviewConfig:
    """Format and order of the written soft labels."""

    form: ReviewFormat = "label-studio"
    by: ReviewOrder = "uncertainty"


@dataclass(frozen=True)
class ReviewReport:
    """The files written, and the numbers of texts."""

    n_texts: int
    n_gold: int  # left out, since they already have a gold label
    path: Path
    settings_file: Path | None  # the settings of the annotation tool's project
    n_cut: int = 0  # texts too long for a cell of a spreadsheet

    def as_text(self) -> str:
        """A summary in one or two lines."""
        lines = [
            f"wrote {self.n_texts} texts to {self.path}"
            + (f", and the project's settings to {self.settings_file}" if self.settings_file else "")
        ]
        if self.n_gold:
            lines.append(f"left out {self.n_gold} texts that already have a gold label")
        if self.n_cut:
            lines.append(f"cut {self.n_cut} texts at {spreadsheet.MAX_CHARS} characters, the most that a cell can hold")
        return "\n".join(lines)


def write_review(path: Path, rows: Sequence[SoftLabel], guide: AnnotationGuide, agent: str, config: ReviewConfig) -> ReviewReport:
    """Write soft labels in another tool's format, sorted by entropy (most uncertain first) or by id.

    For annotation tools a second file is written next to the first, `NAME.config.xml` or `NAME.settings.json`, and texts with a
    gold label are left out; tables contain all texts.

    Args:
        path: the file, with the suffix of the format; for `datasets`, a new folder.
        rows: the soft labels.
        guide: the guidelines shown to reviewers.
        agent: the labeller, for example teacher and method.
        config: format and order.
    Raises:
        FormatError: if the suffix does not fit the format.
        UserError: if no text is left to review, or the file cannot be written.
    """
    suffix = _SUFFIXES.get(config.form)
    if suffix and path.suffix.lower() != suffix:
        raise FormatError(path, "", f"unknown kind {path.suffix!r}; for the format {config.form} allowed: {suffix}")
    for_people = config.form in ("label-studio", "argilla")
    chosen = ordered([row for row in rows if row.gold is None or not for_people], config.by)
    if not chosen:
        raise UserError(f"all {len(rows)} texts already have a gold label; there is nothing to review")
    settings_file, n_cut = None, 0
    match config.form:
        case "label-studio":
            settings_file = path.with_suffix(".config.xml")
            atomic.write_file(path, label_studio.tasks(chosen, agent))
            atomic.write_file(settings_file, label_studio.config(guide).encode())
        case "argilla":
            settings_file = path.with_suffix(".settings.json")
            atomic.write_file(path, argilla.records(chosen, agent))
            atomic.write_file(settings_file, argilla.settings(guide))
        case "jsonl":
            flat_labels.write_jsonl(path, chosen)
        case "csv":
            flat_labels.write_csv(path, chosen)
        case "xlsx":
            n_cut = flat_labels.write_xlsx(path, chosen)
        case "parquet":
            flat_labels.write_parquet(path, chosen)
        case "datasets":
            flat_labels.write_dataset(path, chosen)
    return ReviewReport(len(chosen), len(rows) - len(chosen), path, settings_file, n_cut)


def ordered(rows: Sequence[SoftLabel], by: ReviewOrder) -> list[SoftLabel]:
    """Sort the rows by decreasing entropy of their probabilities (ties by id), or by id."""
    return sorted(rows, key=(lambda row: (-row.entropy, row.id)) if by == "uncertainty" else (lambda row: (0.0, row.id)))
