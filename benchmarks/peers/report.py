"""The figures of the peers as a Markdown table and as a bar chart (SVG)."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isnan
from statistics import median


@dataclass
class PeerFigures:
    """The measurements of one peer, turn by turn."""

    rps: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    same_labels: float = float("nan")  # share of texts with the label that the student gives in process, 0 to 1
    note: str = ""  # why there are no measurements


def markdown(peers: dict[str, PeerFigures], caption: str) -> str:
    """A row for each peer: medians over the turns, with their range.

    Args:
        peers: figures by name; the peer "loop" is the upper limit that the others are compared with.
        caption: how they were measured.
    """
    limit = peers["loop"].rps if "loop" in peers else []
    lines = [
        f"{caption}\n",
        "| server | requests/s | of the loop | p50 alone, ms | same labels | |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, one in peers.items():
        if not one.rps:
            lines.append(f"| {name} | | | | | {one.note} |")
            continue
        share = f"{median(one.rps) / median(limit):.2f}" if limit else ""
        same = "" if isnan(one.same_labels) else f"{one.same_labels:.2f}"
        rps = f"{median(one.rps):.0f} ({min(one.rps):.0f} to {max(one.rps):.0f})"
        p50 = f"{median(one.p50_ms):.2f} ({min(one.p50_ms):.2f} to {max(one.p50_ms):.2f})"
        lines.append(f"| {name} | {rps} | {share} | {p50} | {same} | {one.note} |")
    return "\n".join(lines) + "\n"


def bar_chart(rps_of: dict[str, list[float]]) -> str:
    """SVG: a bar for each peer's median, with a line over its range. Args: rps_of, requests per second by name, turn by turn."""
    rows = list(rps_of.items())
    most = max((max(rps) for _, rps in rows), default=1.0)
    height, left, width = 44 + 34 * len(rows), 130, 480
    parts = [
        f'<rect width="720" height="{height}" fill="#fff"/>',
        f'<text x="{left}" y="24" font-size="15">Requests a second</text>',
    ]
    for index, (name, rps) in enumerate(rows):
        y, x = 40 + 34 * index, [left + width * value / most for value in (median(rps), min(rps), max(rps))]
        colour = "#2f6f5e" if name == "potstill" else "#9a9a9a"
        parts += [
            f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{name}</text>',
            f'<rect x="{left}" y="{y}" width="{x[0] - left:.1f}" height="22" fill="{colour}"/>',
            f'<line x1="{x[1]:.1f}" y1="{y + 11}" x2="{x[2]:.1f}" y2="{y + 11}" stroke="#333" stroke-width="2"/>',
            f'<text x="{max(x) + 6:.1f}" y="{y + 16}">{median(rps):.0f}</text>',
        ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="sans-serif" font-size="13">'
    return f"{head}{''.join(parts)}</svg>\n"
