"""`potstill verify`: whether a bundle is what it was when it was written, and answers as it did."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.errors import FAILED, line
from potstill.serve.offline.verify import verify


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public key, in PEM, of who must have signed it.  [default: a signature is only told of]",
)
@click.pass_context
def command(ctx: click.Context, bundle: Path, key: Path | None) -> None:
    """Check the sums, the form and the golden texts of BUNDLE; a line for each file that fails, and exit code 1 then."""
    found = verify(bundle, key)
    for problem in found.problems:
        click.echo(line(problem), err=True)
    if found.problems:
        ctx.exit(FAILED)
    click.echo(found.as_text())
