"""Where the examples that come with potstill lie."""

from __future__ import annotations

from pathlib import Path

from potstill.contract.errors import UserError

_FOLDER = Path(__file__).resolve().parents[1] / "examples"  # in a checkout a link to the repository's examples/


def example_folder(name: str) -> Path:
    """The folder of an example, `market_stance` say: task.toml, texts.jsonl and gold.jsonl. Raises UserError if unknown."""
    if (_FOLDER / name / "task.toml").is_file():
        return _FOLDER / name
    known = sorted(task.parent.name for task in _FOLDER.glob("*/task.toml"))
    raise UserError(f"there is no example {name!r}; known: {', '.join(known) or 'none, install potstill again'}")
