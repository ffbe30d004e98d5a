"""The plots of a report, except the learning curve.

Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from potstill.contract.scores import metrics
from potstill.contract.soft_label import SoftLabel
from potstill.trainer.evaluation.curves import PrecisionRecall, reliability
from potstill.trainer.report.plot_style import DASHES, LIGHT, SERIES, SIZE, Plot, figure, keep

MAX_CELLS = 16  # labels of a confusion matrix; of more labels those with the most texts
MAX_CURVES = len(SERIES)


def shortened(name: str, most: int = 18) -> str:
    """A label's name on one line, cut to fit beside an axis. Args: most, in characters."""
    name = " ".join(name.split())
    return name if len(name) <= most else f"{name[: most - 1]}…"


def precision_recall_plot(curves: Sequence[PrecisionRecall], *, thresholds: bool) -> Plot:
    """Plot precision against recall of each label. Args: curves, at least one; thresholds, whether the student has any."""
    shown = sorted(curves, key=lambda curve: -curve.n)[:MAX_CURVES]
    with figure(SIZE[0], SIZE[1] + 0.17 * len(shown)) as drawn:
        axes = drawn.subplots()
        for curve, colour, dash in zip(shown, SERIES, DASHES):
            name = f"{shortened(curve.label)} (area {curve.area:.2f}, n = {curve.n})"
            axes.step(
                [0, *curve.recall],
                [curve.precision[0], *curve.precision],
                where="pre",
                color=LIGHT[colour],
                linestyle=dash,
                linewidth=1.6,
                label=name,
            )
            if curve.chosen:
                precision, recall = curve.chosen
                axes.plot([recall], [precision], "o", markersize=7.5, color=LIGHT[colour], markeredgecolor=LIGHT["surface"])
        _unit_square(axes, "recall", "precision")
        drawn.legend(loc="outside lower left", fontsize=9)
        point = "the chosen threshold" if thresholds else "the answers without thresholds"
        told = "; ".join(f"{curve.label}: area {curve.area:.2f}, {_point(curve)}" for curve in shown)
        left_out = f" Shown are the {len(shown)} labels with the most texts." if len(shown) < len(curves) else ""
        return keep(
            drawn,
            "precision-recall",
            title="Precision and recall of each label",
            caption=f"Along a line the threshold of a label falls from left to right. The dot is {point}.{left_out}",
            summary=f"{told}.",
        )


def _point(curve: PrecisionRecall) -> str:
    """The place of the dot, in words."""
    return f"at precision {curve.chosen[0]:.2f} and recall {curve.chosen[1]:.2f}" if curve.chosen else "never answered"


def _unit_square(axes: Axes, x: str, y: str) -> None:
    """Both axes from 0 to 1, with room for dots on the edge."""
    axes.set(xlim=(-0.02, 1.02), ylim=(0, 1.03), xlabel=x, ylabel=y)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))


def reliability_plot(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> Plot:
    """Plot accuracy against confidence. Args: probs float [N, C]; gold int [N]."""
    bins, error = reliability(probs, gold), metrics.ece(probs, gold)
    with figure() as drawn:
        above, below = drawn.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        above.plot([0, 1], [0, 1], color=LIGHT["muted"], linestyle=(0, (4, 3)), linewidth=1)
        for found in bins:
            above.plot([found.confidence] * 2, found.interval, color=LIGHT["accent"], linewidth=1.4)
        above.plot([b.confidence for b in bins], [b.accuracy for b in bins], "o-", color=LIGHT["accent"], linewidth=1, markersize=6)
        _unit_square(above, "", "share right")
        below.bar([b.low for b in bins], [b.n for b in bins], [b.high - b.low for b in bins], align="edge", color=LIGHT["accent"])
        below.set(xlabel="confidence: probability of the answer", ylabel="texts")
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        told = "; ".join(f"{b.low:.1f} to {b.high:.1f}: {b.accuracy:.2f} right of {b.n}" for b in bins)
        return keep(
            drawn,
            "reliability",
            title="Reliability: accuracy by confidence",
            caption="On the dashed line a confidence of 0.7 is right 7 times in 10; below it the student is overconfident. "
            "Bars are 95 % intervals (Wilson), below them the number of texts.",
            summary=f"Expected calibration error {error:.3f}. By confidence: {told}.",
        )


def confusion_plot(counts: NDArray[np.int64], labels: Sequence[str]) -> Plot:
    """Plot the confusion matrix. Args: counts int [C, C], rows are gold."""
    order = sorted(range(len(labels)), key=lambda i: -int(counts[i].sum()))[:MAX_CELLS]
    kept = sorted(order)
    cells, names = counts[np.ix_(kept, kept)], [labels[i] for i in kept]
    side = min(SIZE[0] + 2.4, max(SIZE[0], 1.3 + 0.42 * len(kept)))
    shares = cells / np.maximum(counts.sum(axis=1)[kept], 1)[:, None]
    with figure(side, min(side, 1.2 + 0.62 * len(kept) + 0.4) if len(kept) < 8 else side) as drawn:
        axes = drawn.subplots()
        axes.grid(visible=False)
        for (row, column), share in np.ndenumerate(shares):
            box = (column - 0.5, row - 0.5)
            axes.add_patch(_cell(box, float(share)))
            bold = "bold" if row == column else "normal"
            axes.text(
                column, row, str(cells[row, column]), ha="center", va="center", fontweight=bold, fontsize=11 if len(kept) < 8 else 8
            )
        places = np.arange(len(kept))
        axes.set_xticks(places, [shortened(name, 14) for name in names])
        if len(kept) > 4:
            for tick in axes.get_xticklabels():
                tick.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
        axes.set_yticks(places, [shortened(name, 14) for name in names])
        axes.set(xlim=(-0.5, len(kept) - 0.5), ylim=(len(kept) - 0.5, -0.5), xlabel="answer", ylabel="gold label")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        told = "; ".join(
            f"{name}: " + ", ".join(f"{n} as {other}" for n, other in zip(row, names) if n)
            for name, row in zip(names, cells.tolist())
        )
        left_out = f" Shown are the {len(kept)} labels with the most texts." if len(kept) < len(labels) else ""
        return keep(
            drawn,
            "confusion",
            title="Confusion matrix",
            caption=f"Number of texts; the darker a cell, the larger its share of the row. Right answers are bold.{left_out}",
            summary=f"Answers by gold label. {told}.",
        )


def _cell(corner: tuple[float, float], share: float) -> Rectangle:
    """A cell of the confusion matrix."""
    return Rectangle(corner, 1, 1, facecolor=LIGHT["accent"], alpha=0.04 + 0.5 * share, edgecolor=LIGHT["surface"], linewidth=1.5)


def agreement_plot(rows: Sequence[SoftLabel], what: str) -> Plot:
    """Plot the agreement of the teacher's paths. Args: rows, at least one; what, their name in the caption."""
    agreement = np.array([row.agreement for row in rows])
    edges = np.linspace(0, 1, 11)
    counts, _ = np.histogram(np.minimum(agreement + 1e-9, 1), edges)
    n_paths = sorted({row.n_paths for row in rows})
    with figure(SIZE[0], SIZE[1] - 0.5) as drawn:
        axes = drawn.subplots()
        axes.bar(edges[:-1], counts, 0.1, align="edge", color=LIGHT["accent"], edgecolor=LIGHT["surface"], linewidth=1)
        axes.grid(visible=False, axis="x")
        axes.set(xlim=(0, 1), xlabel="share of a text's paths that chose its majority label", ylabel="texts")
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        unanimous = 100 * np.mean(agreement > 1 - 1e-9)
        paths = str(n_paths[0]) if len(n_paths) == 1 else f"{n_paths[0]} to {n_paths[-1]}"
        told = "; ".join(f"{low:.1f} to {low + 0.1:.1f}: {n}" for low, n in zip(edges, counts.tolist()) if n)
        return keep(
            drawn,
            "agreement",
            title="How far the teacher agrees with itself",
            caption=f"{len(rows)} {what}, {paths} paths each. All paths agree on {unanimous:.0f} % of them.",
            summary=f"Texts by agreement. {told}.",
        )


def losses_plot(losses: Sequence[float], kept_epoch: int) -> Plot:
    """Plot the validation loss after each epoch. Args: losses in nats, at least one; kept_epoch, from 1."""
    with figure(SIZE[0], SIZE[1] - 0.5) as drawn:
        axes = drawn.subplots()
        epochs = range(1, len(losses) + 1)
        axes.plot(epochs, losses, "o-", color=LIGHT["accent"], linewidth=1.4, markersize=5)
        axes.plot([kept_epoch], [losses[kept_epoch - 1]], "o", markersize=11, markerfacecolor="none", color=LIGHT["ink"])
        axes.set(xlabel="epoch", ylabel="validation loss, nats", xlim=(0.5, len(losses) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        told = ", ".join(f"{loss:.3f}" for loss in losses)
        return keep(
            drawn,
            "validation-loss",
            title="How training went",
            caption=f"Loss on the held-out soft labels after each epoch; epoch {kept_epoch} (ringed) was kept.",
            summary=f"Validation loss by epoch: {told}.",
        )
