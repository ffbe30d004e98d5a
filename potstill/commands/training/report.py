"""`potstill report`: a page that shows what a student can and cannot do."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.commands.console.errors import tell
from potstill.commands.console.progress import train_progress
from potstill.commands.options.configs import config_of
from potstill.commands.options.promise import named
from potstill.trainer.config import MAP_TEXTS, MAX_MAP_TEXTS, ReportConfig

FILE = click.Path(path_type=Path)


@click.command("report")
@click.argument("checkpoint", type=FILE)
@click.argument("gold", type=FILE)
@click.option("--out", type=FILE, default="report.html", show_default=True, help="The page to write.")
@click.option("--bundle", type=FILE, help="Bundle of the checkpoint to score too.")
@click.option("--soft-labels", type=FILE, help="File that the student was trained on, for the teacher's agreement.")
@click.option("--teacher", type=FILE, help="Soft labels of the gold texts, for the teacher's scores and slices.")
@click.option("--store", type=FILE, help="Label store that holds the gold texts, to show rationales beside the mistakes.")
@click.option(
    "--slice",
    "patterns",
    metavar="NAME=REGEX",
    multiple=True,
    callback=named,
    help="One more slice: texts that match the regular expression, ignoring case. Repeatable.",
)
@click.option(
    "--errors",
    "n_errors",
    type=click.IntRange(min=0),
    default=ReportConfig.n_mistakes,
    show_default=True,
    help="Mistakes to show, the most confident first.",
)
@click.option(
    "--learning-curve", is_flag=True, help="Train on 10, 20, 50 and 100 % of --soft-labels; takes twice the time of training."
)
@click.option(
    "--run",
    type=FILE,
    help="Folder of potstill run or label: adds pages on each stage; files that are not named above are looked for there.",
)
@click.option(
    "--budget",
    is_flag=True,
    help="Show what fewer texts and fewer paths of --run would have come to on its gold texts; takes minutes.",
)
@click.option(
    "--map",
    "map_texts",
    type=click.IntRange(0, MAX_MAP_TEXTS),
    default=MAP_TEXTS,
    show_default=True,
    help="Texts on the map at most, gold ones first; 0: no map.",
)
@click.option("--plots", "plots", type=FILE, help="Folder for the plots as PNG and SVG files.")
def command(checkpoint: Path, gold: Path, out: Path, **options: object) -> None:
    """Write a page about CHECKPOINT on the file GOLD of texts with gold labels: scores, plots, slices, mistakes, terms."""
    from potstill.workflows.overview.reporting import ReportFiles, write_report

    files, config = config_of(ReportFiles, options), config_of(ReportConfig, options)
    with train_progress("report") as progress:
        write_report(checkpoint, gold, out, files, config, progress, tell)
    click.echo(f"wrote {out}")
