"""`potstill labels`: what is made of stored paths without a new token, and a check of the texts that are to be labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from potstill.commands.console.errors import FAILED, line, tell
from potstill.commands.console.lazy import LazyGroup, Row
from potstill.commands.console.progress import progress
from potstill.commands.labelling.labels_show import command as show_command
from potstill.commands.options.configs import config_of
from potstill.commands.options.labelling import compare_options, derive_options, warn
from potstill.contract.errors import count_of
from potstill.contract.interchange.review_export import REVIEW_FORMATS, REVIEW_ORDERS, ReviewConfig
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.review.people.gold import GOLD_MODES, GoldChoice
from potstill.trainer.pool_check.config import MIN_TEXTS, SampleConfig, TextSource

FILE = click.Path(path_type=Path)
run_option = click.option("--run", "number", type=int, help="Number of the run.  [default: the newest]")
question_option = click.option("--question", help="Of a task of several questions: the one that is wanted, or QUESTION/TAG.")


ROWS: dict[str, Row] = {
    "combine": Row(
        "potstill.commands.labelling.labels_combine",
        "Join the paths of a store with rules and other sources to soft labels.",
        "label",
    ),
    "propose": Row(
        "potstill.commands.labelling.labels_propose", "Propose rules from the texts of a store, for a person to accept.", "label"
    ),
}


@click.command("labels", cls=LazyGroup, rows=ROWS)
def command() -> None:
    """Derive, compare, combine, check and export the soft labels of a label store, and check the texts to be labelled."""


command.add_command(show_command)


@command.command("derive")
@click.argument("store", type=FILE)
@click.argument("soft_labels_file", metavar="SOFT_LABELS", type=FILE)
@derive_options
@run_option
def derive_command(store: Path, soft_labels_file: Path, number: int | None, **options: Any) -> None:
    """Write the soft labels of a STORE's run to SOFT_LABELS (.parquet or .jsonl)."""
    from potstill.labeler.aggregation.soft_labels import Derived
    from potstill.workflows.labels import soft_labels

    with progress("derive"):
        derived = soft_labels.derive(store, soft_labels_file, config_of(DeriveConfig, options), run=number)
    warn(derived.warnings)
    method = f" ({derived.rows[0].method})" if isinstance(derived, Derived) else ""
    click.echo(f"wrote {count_of(len(derived.rows), 'soft label')} to {soft_labels_file}{method}")


@command.command("summary")
@click.argument("store", type=FILE)
@compare_options
@run_option
@question_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def summary_command(store: Path, number: int | None, question: str | None, as_json: bool, **options: Any) -> None:
    """Compare what each method makes of a STORE's paths: scores on gold, label shares, agreement, cost.

    Of a task of several questions this is an overview of all; --question compares the methods for one.
    """
    from potstill.labeler.aggregation import questions_summary
    from potstill.labeler.aggregation.summary import Summary
    from potstill.labeler.aggregation.summary_text import as_text
    from potstill.workflows.labels import soft_labels

    with progress("compare methods"):
        found = soft_labels.summarize(store, config_of(DeriveConfig, options), run=number, question=question)
    warn(found.doubts)
    text = as_text(found) if isinstance(found, Summary) else questions_summary.as_text(found)
    click.echo(msgspec.json.encode(found).decode() if as_json else text)


@command.command("check")
@click.argument("store", type=FILE)
@click.pass_context
def check_command(ctx: click.Context, store: Path) -> None:
    """Look for damage in a STORE: in the file, and in every path."""
    from potstill.workflows.labels import soft_labels

    with progress("check the store"):
        found = soft_labels.check(store)
    for fault in found.faults:
        click.echo(line(f"{store}: {fault}"), err=True)
    if found.faults:
        ctx.exit(FAILED)
    click.echo("\n".join([f"{store}: sound; {found.counts[0]}", *(f"  {count}" for count in found.counts[1:])]))


@command.command("export")
@click.argument("store", type=FILE)
@click.argument("file", type=FILE)
@click.option(
    "--format", "form", type=click.Choice(REVIEW_FORMATS), default=ReviewConfig.form, show_default=True, help="Format to write."
)
@click.option(
    "--by", type=click.Choice(REVIEW_ORDERS), default=ReviewConfig.by, show_default=True, help="Most uncertain first, or by id."
)
@click.option("--task", type=FILE, help="Task file; its question, guideline and meanings are then shown to the reviewers.")
@derive_options
@run_option
@question_option
def export_command(store: Path, file: Path, task: Path | None, number: int | None, question: str | None, **options: Any) -> None:
    """Write the soft labels of a STORE's run to FILE for people to review, or as a table.

    For label-studio and argilla FILE is a .json, the project's settings are written beside it, and texts with gold are left out.
    For datasets FILE is a new folder.
    """
    from potstill.workflows.labels import soft_labels

    review, derive = config_of(ReviewConfig, options), config_of(DeriveConfig, options)
    with progress("export"):
        written, warnings = soft_labels.export_for_review(
            store, file, review, task=task, derive=derive, run=number, question=question
        )
    warn(warnings)
    click.echo(written.as_text())


@command.command("gold")
@click.argument("store", type=FILE)
@click.argument("file", metavar="GOLD", type=FILE)
@click.option(
    "--mode",
    type=click.Choice(GOLD_MODES),
    default=GoldChoice.mode,
    show_default=True,
    help="Texts that were found at random, so that scores on them are honest, or all that people labelled.",
)
@click.option(
    "--task",
    type=FILE,
    help="Task file; texts that it shows as worked examples are left out, as the teacher has read their answers.",
)
@click.option("--person", "people", multiple=True, help="Whose labels count; may be given several times.  [default: everybody's]")
@run_option
def gold_command(store: Path, file: Path, task: Path | None, number: int | None, **chosen: Any) -> None:
    """Write what people decided in `potstill review` to GOLD (.jsonl), for calibration, certificates, tuning and scores.

    The answer of a text is how its disagreement was resolved, else what most people say. The soft labels for training stay as
    they are.
    """
    from potstill.workflows.people import gold

    found = gold.gather_gold(store, file, config_of(GoldChoice, chosen), task=task, run=number)
    click.echo(f"{file}: {found.as_text()}")


@command.command("check-pool")
@click.argument("pool", type=FILE)
@click.argument("target", type=FILE)
@click.option(
    "--max-texts",
    default=SampleConfig.max_texts,
    show_default=True,
    help=f"Texts of each side to compare at most, at least {MIN_TEXTS}.",
)
@click.option("--seed", default=SampleConfig.seed, show_default=True, help="Random seed of the sample and of the folds.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object instead of tables.")
def check_pool_command(pool: Path, target: Path, as_json_: bool, **options: int) -> None:
    """Measure how easily the texts of POOL, to be labelled, are told apart from those of TARGET, like those to be answered.

    A small classifier learns to tell them apart. An area under the ROC curve (AUC) near 0.5 means that it cannot; one over 0.8 is a
    warning, with the lengths, traits and words that give the pool away. A warning is not an error: the exit code is 0.
    """
    from potstill.trainer.pool_check.verdict import as_json, as_text, check_pool, warning

    sides = _side(pool), _side(target)
    with progress("compare texts"):
        check = check_pool(*sides, config_of(SampleConfig, options))
    click.echo(as_json(check) if as_json_ else as_text(check))
    if words := warning(check):
        tell(words)


def _side(path: Path) -> TextSource:
    """The usable texts of a file; rows that were skipped are reported on stderr."""
    from potstill.contract.texts import read_texts

    read = read_texts(path)
    if words := read.skipped_line():
        tell(f"{path}: {words}")
    return TextSource(str(path), [text.text for text in read.texts])
