"""`potstill evaluate` and `potstill calibrate`: what gold labels say about a checkpoint, and what it answers because of them."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.errors import tell
from potstill.commands.console.progress import train_progress
from potstill.commands.options.bundle import trust_option
from potstill.commands.options.configs import config_of
from potstill.commands.options.promise import confidence_option, rule_option

PATH = click.Path(path_type=Path)  # whether it exists is checked by the code that reads it


@click.command("evaluate")
@click.argument("checkpoint", type=PATH)
@click.argument("gold", type=PATH)
@click.option("--bundle", type=PATH, help="Folder of a bundle to score too.")
@trust_option
@click.option("--teacher", type=PATH, help="Soft labels of the gold texts, to score the teacher.")
@click.option("--soft-labels", type=PATH, help="File that the student was trained on; the baseline tfidf learns from it.")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="majority|tfidf|gold|FOLDER",
    help="Baseline to compare with; FOLDER holds a ready-made transformers classifier. Repeatable.",
)
@click.option(
    "--map",
    "label_map",
    multiple=True,
    metavar="NAME=LABEL,...",
    help="Labels that other names stand for; NAME= leaves NAME out. Repeatable.",
)
@click.option(
    "--prior-shift",
    is_flag=True,
    help="Score the student a second time, adapted to the texts' own label shares, which are estimated without gold.",
)
@click.option(
    "--predictions", "predictions_file", type=PATH, help="JSON lines to write: every system's probabilities for each text."
)
@click.option("--json", "as_json_", is_flag=True, help="Print everything as JSON.")
def evaluate(checkpoint: Path, gold: Path, as_json_: bool, predictions_file: Path | None, **options: object) -> None:
    """Score CHECKPOINT on the file GOLD of texts with gold labels: accuracy, macro-F1, log-loss in nats, calibration error.

    All systems answer the same texts. Each is tested against the student: paired bootstrap intervals, and McNemar's exact test.
    """
    from potstill.contract.files import atomic
    from potstill.trainer.evaluation.comparison_text import as_json, as_text, notes, predictions
    from potstill.workflows import evaluation

    with train_progress("evaluate") as progress:
        found = evaluation.evaluate(checkpoint, gold, config_of(evaluation.EvaluateConfig, options), progress)
    if predictions_file:
        atomic.write_file(predictions_file, predictions(found))
    if not as_json_:
        for line in notes(found):
            tell(line)
    click.echo(as_json(found) if as_json_ else as_text(found))


@click.command("calibrate")
@click.argument("checkpoint", type=PATH)
@click.argument("gold", type=PATH)
@click.option("--precision", type=float, help="Wanted precision of every label's answers, above 0 and at most 1.")
@click.option("--coverage", type=float, help="Wanted share of label sets that hold the right label, above 0 and below 1.")
@click.option("--best-f1", is_flag=True, help="Of tags: each holds from the probability of the best F1 on, not of --precision.")
@click.option("--question", "questions", multiple=True, help="Of several questions: one to calibrate; else all. Repeatable.")
@rule_option
@confidence_option
def calibrate(checkpoint: Path, gold: Path, **options: object) -> None:
    """Choose CHECKPOINT's thresholds and label sets on the file GOLD of texts with gold labels, none of them trained on.

    A student of several questions is calibrated question by question, each on the texts with a gold answer to it. Of tags a
    precision is that of saying that a tag holds.
    """
    from potstill.trainer.calibrate_on_gold import ConfidenceConfig
    from potstill.workflows import evaluation

    click.echo(evaluation.calibrate(checkpoint, gold, config_of(ConfidenceConfig, options), tell).as_text())
