"""`potstill verify`: whether a bundle is what it was when it was written, and answers as it did."""

from __future__ import annotations

from pathlib import Path

import click

from commands.failure import FAILED, line
from serve.verify import verify


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.pass_context
def command(ctx: click.Context, bundle: Path) -> None:
    """Check the sums, the form and the golden texts of BUNDLE; a line for each file that fails, and exit code 1 then."""
    found = verify(bundle)
    for problem in found.problems:
        click.echo(line(problem), err=True)
    if found.problems:
        ctx.exit(FAILED)
    click.echo(found.as_text())
