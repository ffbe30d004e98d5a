"""`potstill bench bundle` and `potstill bench server`: how fast a bundle answers on this machine, alone and over HTTP."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from potstill.commands.console.progress import progress
from potstill.commands.options.bundle import trust_option
from potstill.serve.bench.config import BundleBenchConfig, ServerBenchConfig

if TYPE_CHECKING:
    from potstill.serve.bench.bundle_report import BundleBenchReport

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(path_type=Path)
COUNT = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0, min_open=True)
SERVER = ServerBenchConfig  # holds every default
SERVE_COMMAND = (sys.executable, "-m", "potstill", "serve")


@click.command("bundle")
@click.argument("bundle", type=FOLDER)
@click.option("--texts", type=FILE, default=BundleBenchConfig.texts, help="Texts to answer.  [default: the bundle's golden texts]")
@click.option(
    "--n", type=COUNT, default=BundleBenchConfig.n, show_default=True, help="Answers to time, as given and of each length."
)
@click.option("--threads", type=COUNT, default=BundleBenchConfig.threads, show_default=True, help="Cores that one answer may use.")
@click.option(
    "--against",
    type=FOLDER,
    help="BUNDLE's checkpoint: its float graph, and pipelines of optimum and torch, are timed too.  [default: none]",
)
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of a table.")
def bundle_command(bundle: Path, against: Path | None, as_json: bool, **options: Any) -> None:
    """Time the answers of BUNDLE next to the bare session, by number of tokens, and its start-up in a fresh process."""
    from potstill.serve.bench.bundle import bench_bundle  # loads onnxruntime, which the help does without

    config = BundleBenchConfig(**options)
    with progress("bench", "texts", timed=True):
        report = bench_bundle(bundle, config) if against is None else _against(bundle, against, config)
    click.echo(msgspec.json.encode(report) if as_json else report.as_text())


def _against(bundle: Path, checkpoint: Path, config: BundleBenchConfig) -> BundleBenchReport:
    """The figures of the bundle and of its peers."""
    from potstill.export.bench.peers import peers_of  # torch and optimum: only where they are asked for
    from potstill.serve.bench.bundle import bench_bundle

    with (
        tempfile.TemporaryDirectory(prefix="potstill-bench-") as folder,
        peers_of(checkpoint, bundle, Path(folder), config.threads) as (others, peers),
    ):
        return bench_bundle(bundle, config, others, peers)


@click.command("server")
@click.argument("server", metavar="URL|BUNDLE")
@click.option("--bundle", type=FOLDER, help="Bundle that the server at URL answers with, to compare it in process.")
@click.option("--texts", type=FILE, default=SERVER.texts, help="Texts to send.  [default: those that the bundle comes with]")
@click.option("--seconds", type=SECONDS, default=SERVER.seconds, show_default=True, help="Seconds at each rate.")
@click.option("--overload-s", type=SECONDS, default=SERVER.overload_s, show_default=True, help="Seconds at twice the ceiling.")
@click.option("--n-alone", type=COUNT, default=SERVER.n_alone, show_default=True, help="Requests on one connection.")
@click.option("--n-soak", type=COUNT, default=SERVER.n_soak, show_default=True, help="Requests over which memory is watched.")
@click.option(
    "--n-signals",
    type=click.IntRange(min=0),
    default=SERVER.n_signals,
    show_default=True,
    help="SIGHUP, and as many SIGTERM, under load, to servers that are started for it.",
)
@click.option("--processes", type=COUNT, default=SERVER.processes, show_default=True, help="Processes of a server that is started.")
@trust_option
@click.option("--plot", "picture", type=FOLDER, help="SVG file to write: latency over rate.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of a table.")
def server_command(server: str, picture: Path | None, as_json: bool, **options: Any) -> None:
    """Measure the server at URL, or one that is started with BUNDLE: idle, at its ceiling, below it, and at twice the ceiling.

    The variable POTSTILL_KEYS holds the key, if the server asks for one.
    """
    from potstill.serve.bench.load_report import plot
    from potstill.serve.bench.server import bench_server

    with progress("bench", timed=True):
        report = bench_server(server, SERVER(**options), SERVE_COMMAND)
    if picture is not None:
        picture.write_text(plot(report), encoding="utf-8")
    click.echo(msgspec.json.encode(report) if as_json else report.as_text())
