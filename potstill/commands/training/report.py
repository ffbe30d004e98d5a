"""`potstill report`: one page that shows what a student can and cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from potstill.commands.console.train_progress import train_progress
from potstill.contract.checkpoint import read_student
from potstill.contract.files import atomic
from potstill.contract.texts import read_texts
from potstill.trainer.report.build import ReportConfig, ReportSources, build_report
from potstill.trainer.report.page import report_page
from potstill.workflows.evaluation import bundle_answers, open_bundle, stored_rationales

FILE = click.Path(path_type=Path)


def _named(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Mapping[str, str]:
    """NAME=REGEX options by name."""
    pairs = [value.partition("=") for value in values]
    if wrong := next((value for value, (name, _, regex) in zip(values, pairs) if not name.strip() or not regex), None):
        raise click.BadParameter(f"{wrong!r} is not NAME=REGEX", ctx, param)
    return {name.strip(): regex for name, _, regex in pairs}


@click.command("report")
@click.argument("checkpoint", type=FILE)
@click.argument("gold", type=FILE)
@click.option("--out", type=FILE, default="report.html", show_default=True, help="The page to write.")
@click.option("--bundle", type=FILE, help="Score this bundle of the checkpoint too.")
@click.option("--soft-labels", type=FILE, help="What the student was trained on, for the teacher's agreement.")
@click.option("--teacher", type=FILE, help="Soft labels of the gold texts: the teacher's scores and slices.")
@click.option("--store", type=FILE, help="Label store that holds the gold texts: rationales beside the mistakes.")
@click.option(
    "--slice",
    "patterns",
    metavar="NAME=REGEX",
    multiple=True,
    callback=_named,
    help="One more slice: texts in which the regular expression is found, whatever the case. Repeatable.",
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
@click.option("--plots", "plots_folder", type=FILE, help="Folder for the plots as PNG and SVG files.")
def command(
    checkpoint: Path,
    gold: Path,
    out: Path,
    bundle: Path | None,
    soft_labels: Path | None,
    teacher: Path | None,
    store: Path | None,
    plots_folder: Path | None,
    **options: object,
) -> None:
    """Write a page about CHECKPOINT on the file GOLD of texts with gold labels: scores, plots, slices, mistakes, terms."""
    student = read_student(checkpoint)
    rows = read_texts(gold, labels=student.labels, target=student.target, gold=True)
    if line := rows.skipped_line():
        click.echo(line, err=True)
    bundle_probs = None
    if bundle:
        with open_bundle(bundle, student) as classifier:
            bundle_probs = bundle_answers(classifier, rows.texts, student)
    sources = ReportSources(
        checkpoint,
        rows.texts,
        soft_labels,
        teacher,
        bundle_probs,
        stored_rationales(store, student) if store else None,
    )
    with train_progress() as show:
        report = build_report(sources, ReportConfig(**options), show)  # type: ignore[arg-type]  # click gives each its type
    if plots_folder:
        with atomic.folder(plots_folder) as folder:
            for plot in report.plots:
                (folder / f"{plot.name}.svg").write_bytes(plot.svg)
                (folder / f"{plot.name}.png").write_bytes(plot.png)
    atomic.write_file(out, report_page(report))
    click.echo(f"wrote {out}")
