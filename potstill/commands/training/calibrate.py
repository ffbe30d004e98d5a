"""`potstill calibrate`: thresholds and label sets from gold labels."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.contract.checkpoint import read_student
from potstill.contract.texts import read_texts
from potstill.trainer.calibrate_on_gold import ConfidenceConfig, calibrate_on_gold


@click.command("calibrate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("gold", type=click.Path(path_type=Path))
@click.option("--precision", type=float, help="Wanted share of right answers for every label, above 0 and at most 1.")
@click.option("--coverage", type=float, help="Wanted share of label sets that hold the right label, above 0 and below 1.")
def command(checkpoint: Path, gold: Path, precision: float | None, coverage: float | None) -> None:
    """Choose CHECKPOINT's thresholds and label sets on the file GOLD of texts with gold labels, none of them trained on."""
    config = ConfidenceConfig(precision=precision, coverage=coverage)
    student = read_student(checkpoint)
    rows = read_texts(gold, labels=student.labels, target=student.target, gold=True)
    if line := rows.skipped_line():
        click.echo(line, err=True)
    click.echo(calibrate_on_gold(checkpoint, rows.texts, config).as_text())
