"""`potstill evaluate`: what a checkpoint is worth on gold labels, next to its teacher, its bundle and baselines."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.train_progress import train_progress
from potstill.contract.files import atomic
from potstill.trainer.evaluation.comparison_text import as_json, as_text, notes, predictions
from potstill.workflows.evaluation import Sources, evaluation

PATH = click.Path(path_type=Path)  # whether it is there is for its reader to say


@click.command("evaluate")
@click.argument("checkpoint", type=PATH)
@click.argument("gold", type=PATH)
@click.option("--bundle", type=PATH, help="Folder of a bundle to score beside it.")
@click.option("--teacher", type=PATH, help="Soft labels of the gold texts: scores the teacher.")
@click.option("--soft-labels", type=PATH, help="File that the student was trained on; baseline tfidf learns from it too.")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="majority|tfidf|gold|FOLDER",
    help="What to compare with; FOLDER holds a ready-made transformers classifier. Repeatable.",
)
@click.option(
    "--map",
    "label_map",
    multiple=True,
    metavar="NAME=LABEL,...",
    help="What other names for labels stand for; NAME= leaves NAME out. Repeatable.",
)
@click.option(
    "--prior-shift", is_flag=True, help="Score the student fitted to the texts' own label shares too; gold is not looked at."
)
@click.option("--predictions", "predictions_file", type=PATH, help="JSON lines to write: everyone's probabilities for each text.")
@click.option("--json", "as_json_", is_flag=True, help="Print everything as JSON.")
def command(as_json_: bool, predictions_file: Path | None, **options: object) -> None:
    """Score CHECKPOINT on the file GOLD of texts with gold labels: accuracy, macro-F1, log-loss in nats, calibration error.

    Everyone named answers the same texts. Each is tested against the student: paired bootstrap intervals, and McNemar's exact test.
    """
    with train_progress() as show:
        found = evaluation(Sources(**options), show)  # type: ignore[arg-type]  # click gives each option the type of its field
    if predictions_file:
        atomic.write_file(predictions_file, predictions(found))
    if not as_json_:
        for line in notes(found):
            click.echo(line, err=True)
    click.echo(as_json(found) if as_json_ else as_text(found))
