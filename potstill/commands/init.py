"""`potstill init`: files to start from."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.contract.errors import UserError
from potstill.contract.files import atomic

TEMPLATES = Path(__file__).with_name("templates")


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """Write a commented task, project and text file into FOLDER."""
    names = sorted(path.name for path in TEMPLATES.iterdir())
    for name in names:
        if (folder / name).exists():
            raise UserError(f"{folder / name}: is already there; choose another folder, or move it away first")
    for name in names:
        atomic.write_file(folder / name, (TEMPLATES / name).read_bytes())
    click.echo(f"wrote {', '.join(names)} into {folder}")
    click.echo(f"next: edit task.toml and texts.jsonl, then: potstill run {folder / 'project.toml'}")
