"""`potstill bench server`: what HTTP adds to a bundle, what the server bears, and what it does beyond that."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from potstill.serve.bench.server import ServerBenchConfig, bench_server
from potstill.serve.bench.server_report import plot

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
COUNT = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0, min_open=True)


CONFIG = ServerBenchConfig  # where every default stands
SERVE_COMMAND = (sys.executable, "-m", "potstill.commands.main", "serve")


@click.command("server")
@click.argument("server", metavar="URL|BUNDLE")
@click.option("--bundle", type=click.Path(path_type=Path), help="What the server at URL answers with, to compare it in process.")
@click.option("--texts", type=FILE, default=CONFIG.texts, help="Texts to ask.  [default: those that the bundle comes with]")
@click.option("--seconds", type=SECONDS, default=CONFIG.seconds, show_default=True, help="Seconds at each rate.")
@click.option("--overload-s", type=SECONDS, default=CONFIG.overload_s, show_default=True, help="Seconds at twice the ceiling.")
@click.option("--n-alone", type=COUNT, default=CONFIG.n_alone, show_default=True, help="Requests on one connection.")
@click.option("--n-soak", type=COUNT, default=CONFIG.n_soak, show_default=True, help="Requests over which memory is watched.")
@click.option(
    "--n-signals",
    type=click.IntRange(min=0),
    default=CONFIG.n_signals,
    show_default=True,
    help="SIGHUP, and as many SIGTERM, under load; to servers that are started for it.",
)
@click.option("--processes", type=COUNT, default=CONFIG.processes, show_default=True, help="Processes of a server that is started.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="Draw latency over rate into this SVG file.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON instead of a table.")
def command(server: str, picture: Path | None, as_json: bool, **options: Any) -> None:
    """Measure the server at URL, or one that is started with BUNDLE: alone, at its ceiling, at rates below it, and at twice of it.

    A key, if it asks for one, comes from the variable POTSTILL_KEYS.
    """
    report = bench_server(server, CONFIG(**options), SERVE_COMMAND)
    if picture is not None:
        picture.write_text(plot(report), encoding="utf-8")
    click.echo(msgspec.json.encode(report) if as_json else report.as_text())
