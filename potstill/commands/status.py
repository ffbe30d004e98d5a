"""`potstill status`: where a project stands, what is next, and what it cost."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from potstill.commands.console.errors import printable
from potstill.workflows.overview.status import status_of


@click.command("status")
@click.argument("place", type=click.Path(path_type=Path), default=Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def command(place: Path, as_json: bool) -> None:
    """Say where labelling, training and export stand at PLACE, what is next, and what it cost.

    PLACE is a project, a folder of potstill run or potstill label, a label store, a checkpoint or a bundle. It is only looked
    at, and may be at work.
    """
    found = status_of(place)
    click.echo(msgspec.json.encode(found).decode() if as_json else printable(found.as_text()))
