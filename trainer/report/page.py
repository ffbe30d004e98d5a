"""The report as one self-contained HTML page: style, plots and texts are inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from potstill.contract.scores.record import Score
from potstill.trainer.calibration.thresholds import precision_note
from potstill.trainer.report.build import Report
from potstill.trainer.report.plot_style import DARK, LIGHT, SERIES, Plot, inline_svg
from potstill.trainer.report.slices import MIN_TEXTS, SliceScores
from potstill.trainer.report.terms import MAX_FDR, as_knowledge
from potstill.trainer.report.text_map import MapPoint, TextMap

TEMPLATES = Path(__file__).parent / "templates"
MAX_SHOWN = 1200  # characters shown of a text or rationale
_UNPRINTABLE = {*range(32), 127, *range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF} - {9, 10}
REPLACEMENTS = dict.fromkeys(_UNPRINTABLE, "\ufffd")


def report_page(report: Report) -> bytes:
    """Render the page in UTF-8; the same report gives the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(printable=printable, score=short_score, signed=signed_score, percent=percent)
    environment.filters.update(whole=whole, duration=duration)
    drawn = report.stages.text_map
    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.js", *(["map.js"] if drawn else [])))
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "map.css"))
    page = environment.get_template("report.html").render(
        report=report,
        plots={plot.name: plot for plot in report.plots},
        svg=svg_markup,
        slice_groups=[(kind, list(group)) for kind, group in groupby(report.slices, key=lambda part: part.kind)],
        overall=report.scored[0].scores["accuracy"].value,
        track=interval_style,
        promise=precision_note(report.student.precision) if report.student.precision else "",
        knowledge=as_knowledge(report.terms),
        min_texts=MIN_TEXTS,
        max_fdr=MAX_FDR,
        n_series=len(SERIES),
        map_class=map_class,
        map_line=map_line,
        style=Markup(colours() + style),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page.translate(REPLACEMENTS).encode("utf-8")


def svg_markup(plot: Plot) -> Markup:
    """The plot as markup: matplotlib's output is escaped already."""
    return Markup(inline_svg(plot))


def printable(text: str) -> str:
    """A text for the page: cut if it is long, with a replacement mark for every character that HTML does not allow."""
    shown = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} […{len(text) - MAX_SHOWN} more characters]"
    return shown.translate(REPLACEMENTS)


def whole(text: str) -> str:
    """A text of ours for the page, however long, with a replacement mark for every character that HTML does not allow."""
    return text.translate(REPLACEMENTS)


def duration(seconds: float) -> str:
    """`42 s`, `3 min`, `2.5 h`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def map_class(drawn: TextMap, point: MapPoint) -> str:
    """The number of a dot's colour on its map; `x` for labels that have none of their own."""
    place = next((i for i, (name, _) in enumerate(drawn.labels[: len(SERIES)]) if name == point.label), len(SERIES))
    return str(place) if place < len(SERIES) else "x"


def map_line(point: MapPoint) -> str:
    """What is known of a dot's text."""
    parts = [f"gold {point.text.gold}"] if point.text.gold else []
    if point.teacher is not None and point.agreement is not None:
        parts.append(f"teacher {point.teacher} ({percent(point.agreement)} of the paths)")
    parts.append(f"student {point.answer} at {percent(point.confidence)}")
    return whole(", ".join(parts) + (f", about {point.text.target}" if point.text.target else ""))


def short_score(score: Score) -> Markup:
    """`0.612` and its interval."""
    return Markup(f'<span class="value">{score.value:.3f}</span> <span class="interval">{score.low:.3f}–{score.high:.3f}</span>')


def signed_score(score: Score) -> Markup:
    """`+0.021` and its interval."""
    value, low, high = (f"{number:+.3f}".replace("-", "−") for number in (score.value, score.low, score.high))
    return Markup(f'<span class="value">{value}</span> <span class="interval">{low} to {high}</span>')


def percent(share: float) -> str:
    """`56 %`. Args: share, 0 to 1."""
    return f"{100 * share:.0f} %"


def interval_style(part: SliceScores) -> str:
    """The slice's accuracy and its interval as CSS variables, in percent of a track from 0 to 1."""
    score = part.accuracy
    return f"--low: {100 * score.low:.1f}%; --high: {100 * score.high:.1f}%; --value: {100 * score.value:.1f}%"


def colours() -> str:
    """The colours as CSS variables by role: light, and dark if the system is; light in print."""
    return "".join(_palette_rules())


def _palette_rules() -> Iterator[str]:
    """One rule for each colour scheme."""
    for palette, start, end in ((LIGHT, "", ""), (DARK, "@media screen and (prefers-color-scheme: dark) { ", " }")):
        variables = " ".join(f"--{role}: {value};" for role, value in palette.items())
        yield f"{start}:root {{ {variables} }}{end}\n"
