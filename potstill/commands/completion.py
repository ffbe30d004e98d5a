"""`potstill completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_POTSTILL_COMPLETE"  # click's name for it: with it set, the program completes instead of running


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes commands, options and their values.

    For bash (4.4 or later) add this to ~/.bashrc, for zsh to ~/.zshrc after compinit: eval "$(potstill completion SHELL)". For fish
    write the script to ~/.config/fish/completions/potstill.fish.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"click knows no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "potstill", VARIABLE).source())
