"""The report as one HTML page that asks nobody for anything: style, plots and texts are all inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from potstill.contract.scores.record import Score
from potstill.trainer.report.build import Report
from potstill.trainer.report.plot_style import DARK, LIGHT, Plot, inline_svg
from potstill.trainer.report.slices import MIN_TEXTS, SliceScores
from potstill.trainer.report.terms import ALARM, as_knowledge

_TEMPLATES = Path(__file__).parent / "templates"
MAX_SHOWN = 1200  # characters of a text or rationale; a page of mistakes is for reading
_UNPRINTABLE = {*range(32), 127, *range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF} - {9, 10}
_AS_REPLACED = dict.fromkeys(_UNPRINTABLE, "\ufffd")


def report_page(report: Report) -> bytes:
    """The page in UTF-8; the same report gives the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(printable=printable, score=short_score, signed=signed_score, percent=percent)
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    page = environment.get_template("report.html").render(
        report=report,
        plots={plot.name: plot for plot in report.plots},
        svg=svg_markup,
        slice_groups=[(kind, list(group)) for kind, group in groupby(report.slices, key=lambda part: part.kind)],
        overall=report.scored[0].scores["accuracy"].value,
        track=interval_style,
        knowledge=as_knowledge(report.terms),
        min_texts=MIN_TEXTS,
        alarm=ALARM,
        style=Markup(colours() + (_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page.translate(_AS_REPLACED).encode("utf-8")


def svg_markup(plot: Plot) -> Markup:
    """The plot, ready for the page: what matplotlib wrote is escaped already."""
    return Markup(inline_svg(plot))


def printable(text: str) -> str:
    """A text as people wrote it, cut where it gets too long for a page; what no browser may show becomes a replacement mark."""
    shown = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} […{len(text) - MAX_SHOWN} more characters]"
    return shown.translate(_AS_REPLACED)


def short_score(score: Score) -> Markup:
    """`0.612` and its interval, which may stand on a second line."""
    return Markup(f'<span class="value">{score.value:.3f}</span> <span class="interval">{score.low:.3f}–{score.high:.3f}</span>')


def signed_score(score: Score) -> Markup:
    """`+0.021` and its interval."""
    value, low, high = (f"{number:+.3f}".replace("-", "−") for number in (score.value, score.low, score.high))
    return Markup(f'<span class="value">{value}</span> <span class="interval">{low} to {high}</span>')


def percent(share: float) -> str:
    """`56 %`."""
    return f"{100 * share:.0f} %"


def interval_style(part: SliceScores) -> str:
    """Where the slice's accuracy and its interval lie on a track from 0 to 1, as CSS variables in percent."""
    score = part.accuracy
    return f"--low: {100 * score.low:.1f}%; --high: {100 * score.high:.1f}%; --value: {100 * score.value:.1f}%"


def colours() -> str:
    """The roles of colours as CSS: light, and dark where the system is. On paper everything is light."""
    return "".join(_palette_rules())


def _palette_rules() -> Iterator[str]:
    """One rule for each scheme."""
    for palette, start, end in ((LIGHT, "", ""), (DARK, "@media screen and (prefers-color-scheme: dark) { ", " }")):
        variables = " ".join(f"--{role}: {value};" for role, value in palette.items())
        yield f"{start}:root {{ {variables} }}{end}\n"
