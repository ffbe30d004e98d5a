"""The style of plots, in light and dark, and their conversion to SVG and PNG, with the same bytes every time."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

# Every colour of a plot by its role; the page has a second value for dark. No two light values are equal, because the role of a
# colour in a drawn figure is found by its value.
LIGHT = {
    "ink": "#1d2330",
    "muted": "#5b6474",
    "line": "#d5dae3",
    "surface": "#ffffff",
    "accent": "#2a5fa4",
    "series-0": "#2a5fa5",
    "series-1": "#b4510f",
    "series-2": "#2b7a4b",
    "series-3": "#8445ad",
    "series-4": "#ad2f58",
    "series-5": "#0d7680",
}
DARK = {
    "ink": "#e7eaf1",
    "muted": "#a3acbb",
    "line": "#3a4252",
    "surface": "#171b24",
    "accent": "#7fb0f2",
    "series-0": "#80b1f3",
    "series-1": "#f2a06a",
    "series-2": "#7bca9a",
    "series-3": "#cda0ec",
    "series-4": "#f08fb0",
    "series-5": "#62cad5",
}
SERIES = [name for name in LIGHT if name.startswith("series-")]
DASHES = [
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (5, 1.5, 1.2, 1.5)),
    (0, (8, 2)),
    (0, (2.5, 1)),
]  # distinguish curves without colour
SIZE = (4.6, 3.5)  # inches: for the width of a phone, so that text stays readable there

_SETTINGS = {
    "svg.fonttype": "none",  # text stays text, in the page's own font
    "svg.hashsalt": "potstill",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so widths are the same everywhere
    "font.size": 9.5,
    "text.color": LIGHT["ink"],
    "text.parse_math": False,  # a label may hold dollar signs
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.7,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "legend.frameon": False,
    "figure.facecolor": LIGHT["surface"],
    "savefig.facecolor": LIGHT["surface"],
}


@dataclass(frozen=True)
class Plot:
    """A finished plot."""

    name: str  # of its files, and the prefix of every id in it
    title: str
    caption: str  # how to read it
    summary: str  # what it shows, for screen readers
    svg: bytes  # a complete file
    png: bytes


@contextmanager
def figure(width: float = SIZE[0], height: float = SIZE[1]) -> Iterator[Figure]:
    """An empty figure in this style; draw it and :func:`keep` it inside the block. Args: width, height in inches."""
    with rc_context(_SETTINGS), warnings.catch_warnings():
        # in the page the browser has the letters that this font lacks; in a PNG they are boxes
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support", category=UserWarning)
        yield Figure(figsize=(width, height), layout="constrained")


def keep(drawn: Figure, name: str, *, title: str, caption: str, summary: str) -> Plot:
    """Convert the figure to SVG and PNG without dates or versions."""
    for text in drawn.findobj(Text):
        text.set_parse_math(False)
    svg, png = io.BytesIO(), io.BytesIO()
    drawn.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn.savefig(png, format="png", dpi=200, metadata={"Software": None})
    return Plot(name, title, caption, summary, svg.getvalue(), png.getvalue())


def inline_svg(plot: Plot) -> str:
    """The plot as an element of the page: colours by role, unique ids, title and summary for screen readers."""
    text = plot.svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r' xmlns(?::xlink)?="[^"]*"| version="1.1"', "", text)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'(?<= id=")', f"{plot.name}-", text)
    text = re.sub(r'(?<= href="#)|(?<=url\(#)', f"{plot.name}-", text)
    for role, value in LIGHT.items():
        text = text.replace(value, f"var(--{role})")
    about = f'<title id="{plot.name}-title">{escape(plot.title)}</title><desc id="{plot.name}-desc">{escape(plot.summary)}</desc>'
    start = f'<svg role="img" aria-labelledby="{plot.name}-title {plot.name}-desc"'
    head, _, rest = text.partition(">")
    return f"{head.replace('<svg', start, 1)}>{about}{rest}"
