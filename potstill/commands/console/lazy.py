"""A group of commands whose help is a table, so that asking for it imports none of them; a command's file is imported to run it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from potstill.commands.console.errors import missing_extra


class Row(NamedTuple):
    """A command: the module that defines it as `command`, its line in the help, and the extra that it needs."""

    module: str
    help: str
    extra: str | None


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run."""

    def __init__(self, *args: Any, rows: Mapping[str, Row], **kwargs: Any) -> None:
        """Args: rows, the commands by name, in the order in which a newcomer meets them; the rest is click's."""
        super().__init__(*args, **kwargs)
        self.rows = rows

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the table's order."""
        return list(self.rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None if there is none of that name."""
        row = self.rows.get(cmd_name)
        return None if row is None else load(row)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, from the rows alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.help) for name, row in self.rows.items()])


def load(row: Row) -> click.Command:
    """Import a command; raises MissingExtraError if its packages are not installed."""
    try:
        command = importlib.import_module(row.module).command
    except ModuleNotFoundError as error:
        if (told := missing_extra(error, row.extra)) is not None:
            raise told from error
        raise
    if not isinstance(command, click.Command):
        raise TypeError(f"{row.module}.command is {command!r}; it must be a click command")
    return command
