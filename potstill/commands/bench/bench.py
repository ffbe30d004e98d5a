"""`potstill bench`: one measurement a command, each in a file of its own."""

from __future__ import annotations

import click

from potstill.commands.console.lazy import LazyGroup, Row

MEASUREMENTS: dict[str, Row] = {
    "label": Row("potstill.commands.bench.label", "Speed and memory of labelling, next to a loop and llama.cpp's server.", "label"),
    "bundle": Row("potstill.commands.bench.bundle", "Latency, throughput, start-up time and memory of a bundle.", "serve"),
    "server": Row("potstill.commands.bench.server", "Latency, ceiling and overload of the HTTP server.", "serve"),
}


@click.command("bench", cls=LazyGroup, rows=MEASUREMENTS)
def command() -> None:
    """Measure what is installed on this machine."""
