"""`potstill predict`: the texts of files of any size, answered by a bundle."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from potstill.commands.console.errors import tell
from potstill.commands.console.lines import count_lines
from potstill.commands.console.progress import progress
from potstill.commands.options.bundle import trust_option, workers_option
from potstill.commands.options.cluster import RAY, actors_option, engine_option, threads_per_actor_option
from potstill.commands.options.configs import config_of
from potstill.contract.system.progress import tell_progress
from potstill.serve.config import FORMS, Form, PredictConfig

PATH = click.Path(path_type=Path)


@click.command("predict")
@click.argument("bundle", type=PATH)
@click.argument("file")
@workers_option
@click.option("--sets", is_flag=True, help="List each text's label set too; the bundle must have been calibrated with --coverage.")
@click.option(
    "--out",
    help="File (.jsonl, .jsonl.gz, .csv, .parquet), or folder of Parquet parts, to write. The same command goes on after a kill.  "
    "[default: standard output]",
)
@click.option("--format", "form", type=click.Choice(FORMS), help="Of the output.  [default: by the ending of --out; jsonl]")
@click.option("--bad-rows", help="File (.jsonl) for malformed rows, which are passed over.  [default: the first ends it]")
@engine_option
@actors_option
@threads_per_actor_option
@trust_option
def command(bundle: Path, file: str, out: str | None, form: Form | None, bad_rows: str | None, **options: object) -> None:
    """Classify the texts of FILE (.jsonl, .csv, .tsv, .xlsx, .parquet, .json, folder) with BUNDLE; a line of JSON for each row.

    JSON lines (.jsonl.gz, too), CSV and Parquet may have any size, and a folder may hold many such files: memory does not grow
    with them. With - as FILE, JSON lines or CSV are read from standard input. With --engine ray, FILE is a folder of Parquet or
    JSON lines at any fsspec address, and --out and --bad-rows are folders at such addresses.
    """
    config = config_of(PredictConfig, options)
    if out is None and (bad_rows is not None or options["engine"] == RAY):
        raise click.UsageError(f"{'--bad-rows' if bad_rows else '--engine ray'} needs --out")
    if out is None and sys.stdout.isatty():  # the answers themselves show how far it is
        notes = _answer(bundle, file, out, form, bad_rows, config, options)
    else:
        with progress("answer texts", "texts"):
            notes = _answer(bundle, file, out, form, bad_rows, config, options)
    for note in notes:
        tell(note)


def _answer(
    bundle: Path,
    file: str,
    out: str | None,
    form: Form | None,
    bad_rows: str | None,
    config: PredictConfig,
    options: dict[str, object],
) -> list[str]:
    """Answer by the engine that was asked for; lines for a person."""
    from potstill.serve.bulk.run import predict_to_file, predict_to_stream  # loads onnxruntime, which the help does without

    if out is None:
        return predict_to_stream(bundle, file, sys.stdout.buffer, config, form=form or "jsonl").notes()
    report = _count if sys.stderr.isatty() else count_lines("answered", "texts")
    if options["engine"] != RAY:
        return predict_to_file(bundle, file, out, config, form=form, bad_rows=bad_rows, report=report).notes()
    if form not in (None, "parquet"):
        raise click.UsageError("--engine ray writes Parquet; leave --format out")
    from potstill.contract.system.cluster import ClusterConfig  # here, since they import ray
    from potstill.serve.bulk.cluster import predict_on_cluster

    cluster = config_of(ClusterConfig, options)
    return predict_on_cluster(bundle, file, out, config, cluster, bad_rows=bad_rows, report=report).notes()


def _count(n_done: int) -> None:
    """Show how many texts are answered; how many there are is not known before the last."""
    tell_progress("answer texts", n_done)
