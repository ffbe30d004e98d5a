"""`potstill predict`: a file of texts to a line of JSON for each."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from potstill.serve.offline.predict import PredictConfig, predict_file


@click.command("predict")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--workers", type=click.IntRange(min=1), default=PredictConfig.workers, help="Texts answered at once.  [default: usable cores]"
)
@click.option("--sets", is_flag=True, help="List each text's label set too; the bundle must have been calibrated with --coverage.")
def command(bundle: Path, file: Path, workers: int | None, sets: bool) -> None:
    """Classify the texts of FILE (.jsonl, .csv, .tsv, .parquet, .json, a folder) with BUNDLE; one line of JSON each, in order."""
    predictions, skipped = predict_file(bundle, file, PredictConfig(workers=workers, sets=sets))
    if skipped:
        click.echo(skipped, err=True)
    for prediction in predictions:
        click.echo(msgspec.json.encode(prediction))
