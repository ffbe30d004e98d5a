"""`potstill evaluate`: what a checkpoint is worth on gold labels."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from contract.checkpoint import read_student
from contract.texts import read_texts
from trainer.evaluate import evaluate


@click.command("evaluate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("gold", type=click.Path(path_type=Path))
@click.option(
    "--prior-shift", is_flag=True, help="Fit the probabilities to the texts' own label shares first; gold is not looked at."
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def command(checkpoint: Path, gold: Path, prior_shift: bool, as_json: bool) -> None:
    """Score CHECKPOINT on GOLD, texts with gold labels: accuracy, macro-F1, log-loss in nats, Brier score, calibration error."""
    student = read_student(checkpoint)
    rows = read_texts(gold, labels=student.labels, target=student.target, gold=True)
    if line := rows.skipped_line():
        click.echo(line, err=True)
    scores = evaluate(checkpoint, rows.texts, prior_shift=prior_shift)
    if as_json:
        click.echo(msgspec.json.encode(scores))
        return
    for name, score in scores.items():
        click.echo(f"{name:<9}  {score.as_text()}  n = {score.n}")
