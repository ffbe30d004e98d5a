"""The reference of the commands, `docs/cli.md`, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator

import click

from potstill.commands.console.lazy import load
from potstill.commands.main import COMMANDS, group

HEAD = "<!-- Written by `make docs` from the commands themselves; do not edit. -->\n\n# The command line\n\n"
EXIT_CODES = """
## Exit codes

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | something that you can fix; one line on stderr says what and how |
| 2 | wrong usage |
| 130 | interrupted with Ctrl-C |
| 143 | stopped by the system (SIGTERM) while labelling or training |
"""


def command_reference() -> str:
    """The whole page, as Markdown."""
    rows = [f"| [`potstill {name}`](#potstill-{name}) | {row.help} |" for name, row in COMMANDS.items()]
    table = "\n".join(["| command | what it does |", "| --- | --- |", *rows])
    sections = [section for name, row in COMMANDS.items() for section in _sections(f"potstill {name}", load(row))]
    return HEAD + (group.help or "").strip() + "\n\n" + table + "\n" + "".join(sections) + EXIT_CODES


def _sections(path: str, command: click.Command) -> Iterator[str]:
    """A command's section, and those of its own commands."""
    names = group.context_settings["help_option_names"]  # a context without a parent does not know them
    ctx = click.Context(command, info_name=path, max_content_width=100, terminal_width=100, help_option_names=names)
    yield f"\n## {path}\n\n```text\n{command.get_help(ctx)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            if (inner := command.get_command(ctx, name)) is not None:
                yield from _sections(f"{path} {name}", inner)
