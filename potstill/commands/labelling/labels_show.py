"""`potstill labels show`: stored texts with what the teacher made of them, in the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.commands.console.errors import printable
from potstill.commands.options.configs import config_of
from potstill.commands.options.labelling import derive_options, warn
from potstill.labeler.aggregation.config import DeriveConfig, ShowConfig

if TYPE_CHECKING:
    from potstill.labeler.aggregation.shown_texts import ShownText

FEW_LABELS, MOST_SHOWN = 8, 5  # of more labels than the first number, so many are shown
BAR, WIDEST = 20, 100  # characters of a whole bar, of a line


@click.command("show")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--uncertain", is_flag=True, help="Least certain texts first.  [default: by id]")
@click.option("--label", help="Only texts with this majority label.")
@click.option("--text", "words", help="Only texts that contain all of these words, whatever their case.")
@click.option("-n", "most", type=click.IntRange(min=1), help="Texts at most.  [default: all]")
@click.option(
    "--rationales",
    default=ShowConfig.rationales,
    show_default=True,
    help="Rationales of a text at most, of different labels first.",
)
@derive_options
@click.option("--run", "number", type=int, help="Number of the run.  [default: the newest]")
@click.option("--question", help="Of a task of several questions: the one that is wanted, or QUESTION/TAG.")
def command(store: Path, number: int | None, question: str | None, **options: Any) -> None:
    """Show the texts of a STORE's run with the teacher's distribution, votes and rationales, and gold labels.

    In a terminal they are coloured (unless NO_COLOR is set) and paged; into a file or a pipe they are written plain.
    """
    from potstill.workflows.labels import soft_labels

    show, derive = config_of(ShowConfig, options), config_of(DeriveConfig, options)
    with soft_labels.show(store, show, derive, run=number, question=question) as (n_texts, n_found, warnings, texts):
        warn(warnings)
        click.echo_via_pager(_pages(texts, f"{n_found} of {n_texts} texts"), color=_is_coloured())


def _is_coloured() -> bool:
    """Whether there is a terminal, and nobody asked for no colours (no-color.org); `less` is then told to let them through."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if coloured:
        os.environ["LESS"] = f"{os.environ.get('LESS', '')} -R".strip()
    return coloured


def _pages(texts: Iterator[ShownText], title: str) -> Iterator[str]:
    """The title, then each text; a line end follows the last."""
    width = min(WIDEST, shutil.get_terminal_size().columns)
    yield title
    for shown in texts:
        yield "\n".join(["", "", *_lines(shown, width)])


def _lines(shown: ShownText, width: int) -> Iterator[str]:
    """One text."""
    row = shown.row
    about = f"  about {printable(row.target)}" if row.target else ""
    gold = f"  gold {printable(row.gold)}" if row.gold else ""
    differs = row.gold is not None and row.gold != row.majority
    yield click.style(printable(row.id[:16]), bold=True) + about + click.style(gold, fg="red" if differs else "green")
    yield from _wrapped(row.text, width, "  ")
    ranked = sorted(row.probs, key=lambda name: -row.probs[name])
    listed = list(row.probs) if len(ranked) <= FEW_LABELS else ranked[:MOST_SHOWN]
    names = max(len(printable(name)) for name in listed)
    told = f"{row.n_paths} of {row.n_paths} votes"
    whole = max(0, min(BAR, width - names - len(told) - len("    0.000    ")))  # the bar is what a narrow terminal can do without
    for name in listed:
        prob, votes = row.probs[name], row.votes[name]
        bar = ("█" * round(prob * whole) or ("▏" if prob > 0 else ""))[:whole]
        line = f"  {printable(name):<{names}}  {prob:.3f}  {bar:<{whole}}  {votes} of {row.n_paths} votes"
        yield click.style(line, fg="cyan" if name == row.majority else None, dim=name != row.majority)
    if len(listed) < len(ranked):
        yield f"  and {len(ranked) - len(listed)} other labels"
    figures = f"agreement {row.agreement:.2f}, entropy {row.entropy:.2f} nats, label words {row.label_mass:.2f}"
    yield from _wrapped(figures, width, "  ")
    for one in shown.rationales:
        mark = click.style(f"  [{printable(one.label)}]", fg="cyan" if one.label == row.majority else "yellow")
        first, *rest = list(_wrapped(one.text, width, "    ")) or [""]
        yield f"{mark} {first.strip()}"
        yield from rest


def _wrapped(text: str, width: int, indent: str) -> Iterator[str]:
    """A text in lines, with escapes for what a terminal would obey."""
    for line in printable(text).splitlines():
        yield from textwrap.wrap(line, max(20, width), initial_indent=indent, subsequent_indent=indent) or [""]
