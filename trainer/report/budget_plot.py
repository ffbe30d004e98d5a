"""The plot of a budget: what macro-F1 more texts and more paths bring, by how many paths were drawn in all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from potstill.contract.scores.record import Score
from potstill.trainer.report.plot_style import DASHES, LIGHT, SERIES, SIZE, Plot, figure, keep

NAME = "budget"


@dataclass(frozen=True)
class BudgetPart:
    """What a part of the texts and paths comes to, macro-F1 on the gold texts."""

    n_texts: int
    n_paths: int  # of each text
    labels: Score
    student: Score  # of a linear model that stands in for the student

    @property
    def total(self) -> int:
        """Paths that were drawn."""
        return self.n_texts * self.n_paths


def budget_plot(parts: Sequence[BudgetPart], seconds_per_path: float | None = None) -> Plot:
    """Plot labels and stand-in side by side, a line for each number of paths.

    Args:
        parts: at least one.
        seconds_per_path: of the labelling; None: not known.
    """
    sides: list[tuple[str, Callable[[BudgetPart], Score]]] = [
        ("soft labels", lambda part: part.labels),
        ("linear student", lambda part: part.student),
    ]
    values = [score.value for part in parts for score in (part.labels, part.student)]
    with figure(SIZE[0], SIZE[1] * 1.7) as drawn:
        for axes, (name, score_of) in zip(drawn.subplots(2, sharex=True, sharey=True), sides, strict=True):
            _lines(axes, parts, score_of)
            axes.set(ylim=(max(0.0, min(values) - 0.05), min(1.0, max(values) + 0.05)), ylabel=f"macro-F1, {name}")
        axes.set_xscale("log")
        ticks = sorted({part.total for part in parts if part.n_paths == parts[0].n_paths})
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value < 1e4 else f"{value / 1e3:.0f}k"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", labelrotation=45)
        axes.set_xlabel("paths drawn" if seconds_per_path is None else f"paths drawn ({1000 * seconds_per_path:.0f} ms each)")
        axes.legend(title="paths a text", frameon=False, loc="lower right")
        return keep(
            drawn,
            NAME,
            title="Would more texts or more paths help?",
            caption="Labels derived anew from parts of the stored paths, and a linear model over the backbone's embeddings that "
            "learned from them, both on the gold texts. The model stands in for the student: look where its curve rises. "
            f"Points are means over draws of texts; intervals over the gold texts (n = {parts[0].labels.n}) are in the summary.",
            summary="; ".join(_told(parts)),
        )


def _lines(axes: Axes, parts: Sequence[BudgetPart], score_of: Callable[[BudgetPart], Score]) -> None:
    """A line for each number of paths."""
    for place, n_paths in enumerate(sorted({part.n_paths for part in parts})):
        own = [part for part in parts if part.n_paths == n_paths]
        colour, dash = SERIES[place % len(SERIES)], DASHES[place % len(DASHES)]
        axes.plot(
            [part.total for part in own],
            [score_of(part).value for part in own],
            marker="o",
            color=LIGHT[colour],
            linestyle=dash,
            linewidth=1.6,
            markersize=5,
            label=str(n_paths),
        )


def _told(parts: Sequence[BudgetPart]) -> Iterable[str]:
    """Every point in words."""
    for part in parts:
        yield (
            f"{part.n_texts} texts, {part.n_paths} path{'s' if part.n_paths > 1 else ''}: labels {part.labels.as_text()}, "
            f"linear student {part.student.as_text()}"
        )
