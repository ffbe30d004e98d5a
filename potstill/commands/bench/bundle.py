"""`potstill bench bundle`: how fast a bundle answers on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import msgspec

from potstill.serve.bench.bundle import BundleBenchConfig, bench_bundle
from potstill.serve.bench.bundle_report import BundleBenchReport

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(path_type=Path)


@click.command("bundle")
@click.argument("bundle", type=FOLDER)
@click.option("--texts", type=FILE, default=BundleBenchConfig.texts, help="Texts to answer.  [default: the bundle's golden texts]")
@click.option(
    "--n",
    type=click.IntRange(min=1),
    default=BundleBenchConfig.n,
    show_default=True,
    help="Answers to time, as given and of each length.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), default=BundleBenchConfig.threads, show_default=True, help="Cores one answer may use."
)
@click.option(
    "--against",
    type=FOLDER,
    help="BUNDLE's checkpoint: its float graph, and pipelines of optimum and torch, are timed beside.  [default: none]",
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON instead of a table.")
def command(bundle: Path, texts: Path | None, n: int, threads: int, against: Path | None, as_json: bool) -> None:
    """Time the answers of BUNDLE next to the bare session, by number of tokens, and its start-up in a fresh process."""
    config = BundleBenchConfig(texts=texts, n=n, threads=threads)
    report = bench_bundle(bundle, config) if against is None else _against(bundle, against, config)
    click.echo(msgspec.json.encode(report) if as_json else report.as_text())


def _against(bundle: Path, checkpoint: Path, config: BundleBenchConfig) -> BundleBenchReport:
    """The figures of the bundle and of its peers."""
    from potstill.export.bench.peers import peers_of  # torch and optimum: only where they are asked for

    with (
        tempfile.TemporaryDirectory(prefix="potstill-bench-") as folder,
        peers_of(checkpoint, bundle, Path(folder), config.threads) as (others, peers),
    ):
        return bench_bundle(bundle, config, others, peers)
