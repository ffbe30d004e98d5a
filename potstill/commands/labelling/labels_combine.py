"""`potstill labels combine`: a teacher's paths and other sources, joined to soft labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from potstill.commands.console.progress import progress
from potstill.commands.options.configs import config_of
from potstill.commands.options.labelling import prior_option, refine_option, warn
from potstill.contract.errors import count_of
from potstill.labeler.aggregation.config import Refining
from potstill.labeler.weak_supervision.config import EXAMPLES, LABEL_MODELS, CombineConfig

FILE = click.Path(path_type=Path)


@click.command("combine")
@click.argument("task", type=FILE)
@click.argument("store", type=FILE)
@click.argument("soft_labels_file", metavar="SOFT_LABELS", type=FILE)
@click.option(
    "--method",
    type=click.Choice(LABEL_MODELS),
    default=CombineConfig.method,
    show_default=True,
    help="Label model: weigh each source by how it agrees with the others (dawid-skene; snorkel needs the extra snorkel), or let "
    "all count the same (majority).",
)
@prior_option("Share of each label among such texts, above 0, summing to 1.  [default: estimated]")
@click.option(
    "--accuracy",
    default=CombineConfig.accuracy,
    show_default=True,
    help="Share of a source's votes believed right before they are compared, above 0 and below 1; people are believed more.",
)
@click.option(
    "--strength",
    default=CombineConfig.strength,
    show_default=True,
    help="Votes of each source that this belief is worth, 0 or more; dawid-skene only.",
)
@refine_option
@click.option("--run", type=int, help="Number of the teacher's run.  [default: the newest]")
@click.option("--functions", metavar="FILE", help="Python file of labelling functions; it is run.")
@click.option(
    "--teacher",
    "stores",
    multiple=True,
    metavar="[NAME=]STORE[@RUN]",
    help="Another teacher's label store, or another run of this one; may be given several times.",
)
@click.option("--answers", multiple=True, metavar="[NAME=]FILE", help="Another source's answers, or soft labels; several times.")
@click.option("--bundle", "bundles", multiple=True, metavar="[NAME=]FOLDER", help="A ready-made classifier; several times.")
@click.option(
    "--prototypes",
    is_flag=False,
    flag_value=EXAMPLES,
    metavar="[FILE]",
    help="The label whose examples a text resembles most, where that is clear: the task's worked examples, or texts with gold "
    "labels in FILE (needs the extra train).",
)
@click.option("--people", is_flag=True, help="What people decided in `potstill review`; each person is a source.")
@click.option("--without", multiple=True, metavar="NAME", help="A source that does not vote; several times.")
@click.option("--gold", metavar="FILE", help="Texts with gold labels, by id or text; for scores only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(task: Path, store: Path, soft_labels_file: Path, refine: Refining, as_json: bool, **options: Any) -> None:
    """Join the paths of STORE with other sources, and write the soft labels to SOFT_LABELS (.parquet or .jsonl).

    The rules of TASK vote, and every source that an option names.
    """
    from potstill.workflows.labels.combining import combine
    from potstill.workflows.labels.sources import SourceConfig

    config, sources = config_of(CombineConfig, options), config_of(SourceConfig, options)
    with progress("combine", "texts"):
        report = combine(task, store, soft_labels_file, config, sources, refine=refine)
    warn(report.warnings)
    shown = {"sources": report.sources, "scores": report.scores, "n_texts": len(report.rows)}
    click.echo(msgspec.json.encode(shown).decode() if as_json else report.as_text())
    if not as_json:
        click.echo(f"\nwrote {count_of(len(report.rows), 'soft label')} to {soft_labels_file} ({report.rows[0].method})")
