"""Where the examples that come with potstill lie: beside the sources in a checkout, inside the package once installed."""

from __future__ import annotations

from pathlib import Path

from contract.errors import UserError

_HERE = Path(__file__).resolve().parent
_FOLDERS = (_HERE / "examples", _HERE.parent / "examples")  # the wheel maps the repository's examples/ to commands/examples/


def example_folder(name: str) -> Path:
    """The folder of an example, `market_stance` say: task.toml, texts.jsonl and gold.jsonl. Raises UserError if unknown."""
    for folder in _FOLDERS:
        if (folder / name / "task.toml").is_file():
            return folder / name
    known = sorted({task.parent.name for folder in _FOLDERS for task in folder.glob("*/task.toml")})
    raise UserError(f"there is no example {name!r}; known: {', '.join(known) or 'none, install potstill again'}")
