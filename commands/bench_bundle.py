"""`potstill bench bundle`: how fast a bundle answers on this machine."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from serve.bench import BenchConfig, bench

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("bundle")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--texts", type=FILE, default=BenchConfig.texts, help="Texts to answer.  [default: the bundle's golden texts]")
@click.option("--n", type=click.IntRange(min=1), default=BenchConfig.n, show_default=True, help="Answers to time.")
@click.option(
    "--threads", type=click.IntRange(min=1), default=BenchConfig.threads, show_default=True, help="Cores one answer may use."
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON instead of a table.")
def command(bundle: Path, texts: Path | None, n: int, threads: int, as_json: bool) -> None:
    """Time the answers of BUNDLE next to the bare session, and its start-up in a fresh process."""
    report = bench(bundle, BenchConfig(texts=texts, n=n, threads=threads))
    click.echo(msgspec.json.encode(report) if as_json else report.as_text())
