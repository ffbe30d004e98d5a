"""`potstill labels check-pool`: whether the texts to be labelled are like those that the student will answer."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.contract.texts import read_texts
from potstill.trainer.pool_check.sample import MIN_TEXTS, SampleConfig, TextSource

FILE = click.Path(path_type=Path)


@click.command("check-pool")
@click.argument("pool", type=FILE)
@click.argument("target", type=FILE)
@click.option(
    "--max-texts",
    default=SampleConfig.max_texts,
    show_default=True,
    help=f"Texts of each side to compare at most, at least {MIN_TEXTS}.",
)
@click.option("--seed", default=SampleConfig.seed, show_default=True, help="Of the texts drawn and of the folds.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object instead of tables.")
def command(pool: Path, target: Path, as_json_: bool, **options: int) -> None:
    """Say how easily the texts of POOL, to be labelled, are told from those of TARGET, which are like those to be answered.

    A small classifier learns to tell them apart. An area under the ROC curve (AUC) near 0.5 says that it cannot; one over 0.8 is a
    warning, with the lengths, traits and words that give the pool away. A warning is no error: the exit code is 0.
    """
    # scikit-learn is loaded only here: other commands of the group do without
    from potstill.trainer.pool_check.check import as_json, as_text, check_pool, warning

    config = SampleConfig(**options)
    check = check_pool(_side(pool), _side(target), config)
    click.echo(as_json(check) if as_json_ else as_text(check))
    if line := warning(check):
        click.echo(line, err=True)


def _side(path: Path) -> TextSource:
    """The usable texts of a file; what was passed over is told on stderr."""
    read = read_texts(path)
    if line := read.skipped_line():
        click.echo(f"{path}: {line}", err=True)
    return TextSource(str(path), [text.text for text in read.texts])
