"""`potstill predict`, `verify`, `adapt` and `cascade`: bundles on files of texts, without a server."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from potstill.commands.console.errors import FAILED, line, printable, tell
from potstill.serve.offline import verify as verification
from potstill.serve.offline.adapt import AdaptConfig, adapt_bundle
from potstill.serve.offline.cascade import CascadeConfig, cascade_bundle
from potstill.serve.offline.predict import PredictConfig, predict_file

PATH = click.Path(path_type=Path)
# every configuration has the same default
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=PredictConfig.workers,
    help="Texts answered at the same time.  [default: usable cores]",
)


@click.command("predict")
@click.argument("bundle", type=PATH)
@click.argument("file", type=PATH)
@workers_option
@click.option("--sets", is_flag=True, help="List each text's label set too; the bundle must have been calibrated with --coverage.")
def predict(bundle: Path, file: Path, workers: int | None, sets: bool) -> None:
    """Classify the texts of FILE (.jsonl, .csv, .tsv, .parquet, .json, a folder) with BUNDLE; one line of JSON a row, in order.

    With - as FILE, JSON lines or CSV are read from standard input.
    """
    predictions, skipped = predict_file(bundle, file, PredictConfig(workers=workers, sets=sets))
    if skipped:
        tell(skipped)
    for prediction in predictions:
        click.echo(msgspec.json.encode(prediction))


@click.command("verify")
@click.argument("bundle", type=PATH)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public key (PEM) of whoever must have signed it.  [default: a signature is only mentioned]",
)
@click.pass_context
def verify(ctx: click.Context, bundle: Path, key: Path | None) -> None:
    """Check the sums, the format and the golden texts of BUNDLE; print a line for each file that fails, and exit with 1 then."""
    found = verification.verify(bundle, key)
    for problem in found.problems:
        click.echo(line(problem), err=True)
    if found.problems:
        ctx.exit(FAILED)
    click.echo(printable(found.as_text()))


@click.command("adapt")
@click.argument("bundle", type=PATH)
@click.argument("texts", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the new bundle.")
@click.option(
    "--level", default=AdaptConfig.level, show_default=True, help="Significance level of the test, 0 to 1; 1 always adapts."
)
@workers_option
def adapt(bundle: Path, texts: Path, out: Path, level: float, workers: int | None) -> None:
    """Estimate the label shares of TEXTS, which need no labels, and write BUNDLE again for them."""
    report = adapt_bundle(bundle, texts, out, AdaptConfig(level=level, workers=workers))
    if report.skipped:
        tell(report.skipped)
    click.echo(printable(report.as_text()))


@click.command("cascade")
@click.argument("fast", type=PATH)
@click.argument("bundle", type=PATH)
@click.argument("texts", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--max-loss",
    default=CascadeConfig.max_loss,
    show_default=True,
    help="Largest accepted loss, 0 to 1: of macro-F1 where TEXTS have gold labels, else of agreement with BUNDLE.",
)
@workers_option
def cascade(fast: Path, bundle: Path, texts: Path, out: Path, max_loss: float, workers: int | None) -> None:
    """Write OUT, a bundle in which FAST (such as a static student) answers where it is confident, and BUNDLE answers the rest.

    The confidence that FAST needs is chosen on TEXTS, which neither of them was trained on.
    """
    report = cascade_bundle(fast, bundle, texts, out, CascadeConfig(max_loss=max_loss, workers=workers))
    if report.skipped:
        tell(report.skipped)
    click.echo(printable(report.as_text()))
