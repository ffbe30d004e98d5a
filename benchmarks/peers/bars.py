"""A bar for each peer, in one SVG without anything from outside."""

from __future__ import annotations

from statistics import median


def plot(found: dict[str, list[float]]) -> str:
    """SVG: a bar for each peer's ceiling, with a line over its range; found holds requests a second by name, turn by turn."""
    rows = list(found.items())
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
