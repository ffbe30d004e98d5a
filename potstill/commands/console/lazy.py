"""A group of commands whose help is a table, so that asking for it imports none of them; a command's file is imported to run it.

That file imports only what its help needs: options, and the light files that hold their defaults. What the command works with it
imports in its function, so that `--help` takes a tenth of a second where onnxruntime takes two and torch forty.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from potstill.commands.console.errors import missing_extra

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Row(NamedTuple):
    """A command in the table: where it is defined, its line in the help, and the extra that it needs."""

    module: str
    help: str
    extra: str | None
    attribute: str = "command"  # its name in the module


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run, beside any that are added as usual."""

    def __init__(self, *args: Any, rows: Mapping[str, Row], **kwargs: Any) -> None:
        """Args: rows, the commands by name, in the order in which a newcomer meets them; the rest is click's."""
        super().__init__(*args, **kwargs)
        self.rows = rows

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names: those that are loaded already, then the table's, in its order."""
        return [*self.commands, *self.rows]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None if there is none of that name."""
        row = self.rows.get(cmd_name)
        return load(row) if row else super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for; raises MissingExtraError, naming its extra, where a package is not installed."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            row = self.rows.get(ctx.invoked_subcommand or "")
            if row is None or (missing := missing_extra(error, row.extra)) is None:
                raise  # a bug, or a command beside the rows, whose extra is the group's
            raise missing from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names that begin so, from the rows alone, and the group's own options."""
        from click.shell_completion import CompletionItem  # only who presses the key waits for it

        named = {name: command.get_short_help_str() for name, command in self.commands.items()}
        named |= {name: row.help for name, row in self.rows.items()}
        found = [CompletionItem(name, help=text) for name, text in named.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands, from the rows alone."""
        loaded = [(name, command.get_short_help_str(limit=100)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*loaded, *((name, row.help) for name, row in self.rows.items())])


def load(row: Row) -> click.Command:
    """Import a command; raises MissingExtraError if its packages are not installed."""
    try:
        command = getattr(importlib.import_module(row.module), row.attribute)
    except ModuleNotFoundError as error:
        if (missing := missing_extra(error, row.extra)) is not None:
            raise missing from error
        raise
    if not isinstance(command, click.Command):
        raise TypeError(f"{row.module}.{row.attribute} is {command!r}; it must be a click command")
    return command
