"""`potstill bench`: a command for each measurement."""

from __future__ import annotations

import click

from potstill.commands.console.lazy import LazyGroup, Row

ROWS: dict[str, Row] = {
    "label": Row("potstill.commands.bench.label", "Speed and memory of labelling, next to a loop and llama.cpp's server.", "label"),
    "bundle": Row(
        "potstill.commands.bench.serving", "Latency, throughput, start-up time and memory of a bundle.", "serve", "bundle_command"
    ),
    "server": Row(
        "potstill.commands.bench.serving", "Latency, ceiling and overload of the HTTP server.", "serve", "server_command"
    ),
}


@click.command("bench", cls=LazyGroup, rows=ROWS)
def command() -> None:
    """Measure what is installed on this machine."""
