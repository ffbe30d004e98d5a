"""The project: the files that the pipeline works on and writes, and the settings of its stages (`project.toml`, format 1)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import decode
from potstill.contract.files.decode import Strict

FORMAT = 1
# What stands in a project's `out`; the first three in every folder of `potstill label`.
STORE_FILE, SOFT_LABELS_FILE, GOLD_LABELS_FILE = "labels.db", "soft_labels.parquet", "gold_labels.parquet"
COMBINED_LABELS_FILE, COMBINED_GOLD_FILE = "combined_labels.parquet", "combined_gold.parquet"  # where `[combine]` is given
STATE_FILE, CHECKPOINT_FOLDER, BUNDLE_FOLDER = "state.json", "student", "bundle"
TEACHER = "smollm2-135m-instruct"
T = TypeVar("T")


class Project(Strict):
    """A project. Paths are relative to its file. Each table has one stage's settings, named as in the stage's configuration."""

    format: int
    task: str = "task.toml"
    texts: str = "texts.jsonl"
    gold: str | None = None  # texts with gold labels, for scores only; never trained on
    out: str = "out"
    teacher: str = TEACHER
    label: dict[str, Any] = {}
    combine: dict[str, Any] | None = None  # given, even if empty: the student learns from the teacher and other sources together
    train: dict[str, Any] = {}
    export: dict[str, Any] = {}


class StageRecord(msgspec.Struct, frozen=True):
    """The digests of a finished stage's inputs and outputs, and how long it took when it ran; by stage in `state.json`."""

    inputs: str
    outputs: dict[str, str]  # SHA-256 by file name, relative to the project's `out`
    seconds: float


def load_project(path: str | Path) -> Project:
    """Read a `project.toml`; raises FormatError if it is missing, malformed or of another format."""
    path = Path(path)
    project = decode.toml(path, Project)
    if project.format != FORMAT:
        raise FormatError(path, "format", f"is {project.format}; this version reads {FORMAT}")
    return project


def settings(path: Path, stage: str, table: dict[str, Any], kind: type[T]) -> T:
    """Convert one stage's table to its configuration dataclass.

    Args:
        path: the project file, for errors.
        stage: name of the table.
        table: its content.
        kind: the dataclass.

    Raises:
        FormatError: if a key is unknown or a value has the wrong type; the message lists the allowed keys.
    """
    allowed = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # every configuration is a dataclass
    for key in table:
        if key not in allowed:
            raise FormatError(path, stage, decode.unknown_key(key, allowed))
    return decode.convert(path, table, kind, stage)
