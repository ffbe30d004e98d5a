"""The page of all results: what was measured, where, and what was not run; with a plot of the first table that has figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from claim_runs import Run
from matplotlib.figure import Figure

from potstill.contract.files.atomic import write_file

FIGURE = r"[-+]?\d[\d,]*(?:\.\d+)?"
INTERVAL = re.compile(rf"({FIGURE})[^\d\[\(]*[\[\(]({FIGURE})(?:, ?| to )({FIGURE})[\]\)]")
PLAIN = re.compile(rf"\**({FIGURE})\**(?: ?(?:%|[a-zA-Zµ/]+))?")
N_LINES = 400  # of what a program printed; NAME.json has the rest
N_BARS = 40


@dataclass(frozen=True)
class PrintedTable:
    """A table that a program printed: its header, and rows of as many cells."""

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Bars:
    """One column of a table: a figure a row, with its interval where it has one."""

    title: str
    names: list[str]
    values: list[float]
    intervals: list[tuple[float, float] | None]


def tables(text: str) -> Iterator[PrintedTable]:
    """The Markdown tables, and those whose columns are two spaces or more apart, in the order in which they were printed."""
    block: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        cells = _cells(line)
        if block and len(cells) != len(block[0]):
            if len(block) > 1 and not any(re.fullmatch(FIGURE, cell) for cell in block[0]):  # a header has no figures
                yield PrintedTable(block[0], block[1:])
            block = []
        if len(cells) > 1 and not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            block.append(cells)


def _cells(line: str) -> list[str]:
    """The cells of a line."""
    line = line.strip()
    if line.startswith("|"):
        return [cell.strip() for cell in line.strip("|").split("|")] if line.count("|") > 2 else []
    return re.split(r" {2,}", line)


def bars(printed: Iterable[PrintedTable]) -> Bars | None:
    """The column with most intervals, else the first with most figures, of the first table that has two rows of either."""
    for table in printed:
        columns = [_column(table, number) for number in range(1, len(table.header))]
        found = [column for column in columns if len(column.values) > 1]
        if found:
            return max(found, key=lambda column: (sum(map(bool, column.intervals)), len(column.values)))
    return None


def _column(table: PrintedTable, number: int) -> Bars:
    """The figures of a column; rows where it has none are left out, and a row is named by its cells without figures."""
    bar, above = Bars(": ".join(filter(None, [table.header[0], table.header[number]])), [], [], []), ""
    for row in table.rows:
        above = row[0] or above
        interval, plain = INTERVAL.search(row[number]), PLAIN.fullmatch(row[number])
        if not interval and not plain:
            continue
        value, *ends = [float(text.replace(",", "")) for text in (interval or plain).groups()]  # type: ignore[union-attr]
        words = [cell for cell in row[1:number] if cell and not INTERVAL.search(cell) and not PLAIN.fullmatch(cell)]
        bar.names.append(", ".join([above, *words]).replace("*", "").replace("`", ""))
        bar.values.append(value)
        bar.intervals.append((ends[0], ends[1]) if ends and ends[0] <= value <= ends[1] else None)
    return bar


def write_plot(path: Path, bar: Bars) -> None:
    """Write the bars as an SVG file, from top to bottom as in the table; whiskers are the intervals that were printed."""
    names, values = [name[:60] for name in bar.names[:N_BARS]], bar.values[:N_BARS]
    with matplotlib.rc_context({"svg.hashsalt": "potstill", "svg.fonttype": "none", "text.parse_math": False}):
        figure = Figure(figsize=(8, 1 + 0.3 * len(values)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(values)), values, color="#7aa6c2")
        for place, (value, interval) in enumerate(zip(values, bar.intervals, strict=False)):
            if interval:
                axes.errorbar(value, place, xerr=[[value - interval[0]], [interval[1] - value]], color="#222222", capsize=3)
        axes.set_yticks(range(len(values)), names, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(bar.title)
        axes.spines[["top", "right"]].set_visible(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def write_page(path: Path, runs: list[Run], old: set[str], not_run: list[tuple[str, str, list[str]]]) -> None:
    """Write the page and a plot a run beside it.

    Args:
        path: of the page.
        runs: what was measured, in the table's order.
        old: names of those that an earlier version of the package or the program gave, or other commands.
        not_run: title, reason and commands of everything else.
    """
    lines = [
        "# Results of this machine",
        "",
        "| claim | state | took | begun | load before, after |",
        "| --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        state = f"{run.state}, an earlier version" if run.name in old else run.state
        load = f"{run.load[0]:.1f}, {run.load[1]:.1f}"
        lines.append(f"| [{run.title}](#{run.name}) | {state} | {run.seconds:.0f} s | {run.begun} | {load} |")
    for run in runs:
        lines += ["", *_section(run, path.parent, run.name in old)]
    lines += ["", "## Not run", ""]
    for title, reason, commands in not_run:
        lines += [f"- {title}: {reason}", "", "  ```sh", *[f"  {command}" for command in commands], "  ```", ""]
    write_file(path, "\n".join([*lines, ""]).encode())


def _section(run: Run, folder: Path, old: bool) -> list[str]:
    """What was measured, where, and what the programs printed; the plot is written beside the page."""
    packages = ", ".join(f"{name} {number}" for name, number in run.versions.items())
    machine = f"{run.cpu} ({', '.join(run.flags)}), {run.cores} cores, load {run.load[0]:.1f} before and {run.load[1]:.1f} after"
    lines = [f'## <a id="{run.name}"></a>{run.title}', "", "```sh", *run.commands, "```", ""]
    lines += [f"{run.begun}, {machine}, {run.seconds:.0f} s. Python {run.python}, {packages}."]
    if old:
        lines += ["", "Measured with an earlier version of the package or the program, or with another command."]
    if run.state != "passed":
        lines += ["", f"**{run.state}**", "", "````text", run.error, "````"]
    plot, bar = folder / f"{run.name}.svg", bars(tables(run.output))
    plot.unlink(missing_ok=True)
    if bar and any(bar.values):
        write_plot(plot, bar)
        lines += ["", f"![{bar.title}]({plot.name})"]
    printed = run.output.rstrip().splitlines()
    if len(printed) > N_LINES:
        printed = [*printed[:N_LINES], f"... {len(printed) - N_LINES} further lines are in {run.name}.json"]
    markdown = any(line.startswith("|") for line in printed)
    return [*lines, "", *(printed if markdown else ["````text", *printed, "````"])]
