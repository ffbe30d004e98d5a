"""Files to start from: the examples that come with potstill, the demo's project, and the templates of `potstill init`."""

from __future__ import annotations

import json
import string
from dataclasses import fields
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.project import TEACHER
from potstill.labeler.config import LabelConfig
from potstill.trainer.config import TrainConfig

DEMO_EXAMPLE = "market_stance"
_FOLDER = Path(__file__).resolve().parents[1] / "examples"  # in a checkout a link to the repository's examples/
_TEMPLATES = Path(__file__).resolve().parents[1] / "commands" / "templates"
_DEMO_PROJECT = """\
# The demo's project; the same file for your own texts is written by: potstill init DIR
format = 1
task = "task.toml"
texts = "texts.jsonl"
gold = "gold.jsonl"
out = "."
teacher = "smollm2-135m-instruct"

[label]
mode = "direct"     # "cot" lets the teacher reason first; on these posts it is no better and takes longer
n_paths = 3         # of the usual 8, to end within minutes: one prompt variant each
refine = "off"      # these few hundred posts, no two alike, say little of each other (docs/results.md); leave it out for yours
"""


def example_folder(name: str) -> Path:
    """The folder of an example, `market_stance` say: task.toml, texts.jsonl and gold.jsonl. Raises UserError if unknown."""
    if (_FOLDER / name / "task.toml").is_file():
        return _FOLDER / name
    known = sorted(task.parent.name for task in _FOLDER.glob("*/task.toml"))
    raise UserError(f"there is no example {name!r}; known: {', '.join(known) or 'none, install potstill again'}")


def write_demo_project(out: Path) -> Path:
    """Copy the demo's example into ``out`` and write its project file, which is returned; raises UserError if the disk refuses."""
    source = example_folder(DEMO_EXAMPLE)
    for name in ("task.toml", "texts.jsonl", "gold.jsonl"):
        atomic.write_file(out / name, (source / name).read_bytes())
    atomic.write_file(out / "project.toml", _DEMO_PROJECT.encode())
    return out / "project.toml"


def write_templates(folder: Path) -> list[str]:
    """Write a commented task, project and text file, with the settings that hold by default; returns their names.

    Raises:
        UserError: if one of them is there already, or the disk refuses.
    """
    names = sorted(path.name for path in _TEMPLATES.iterdir())
    for name in names:
        if (folder / name).exists():
            raise UserError(f"{folder / name}: is already there; choose another folder, or move it away first")
    defaults = {"teacher": json.dumps(TEACHER)}
    for stage, kind in (("label", LabelConfig), ("train", TrainConfig)):
        defaults |= {f"{stage}_{field.name}": json.dumps(field.default) for field in fields(kind)}
    for name in names:
        text = (_TEMPLATES / name).read_text(encoding="utf-8")
        atomic.write_file(folder / name, string.Template(text).substitute(defaults).encode())
    return names
