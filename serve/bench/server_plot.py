"""The rate ladder as a picture: latency over rate, both as they are, in one SVG without anything from outside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from potstill.serve.bench.server import ServerBenchReport

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 64, 64, 36, 52
CURVES = (("p50", "p50_ms", "#2f6f5e"), ("p95", "p95_ms", "#5b7fb4"), ("p99", "p99_ms", "#b07d2b"), ("p99.9", "p999_ms", "#a33a2a"))


def plot(report: ServerBenchReport) -> str:
    """SVG; rates are linear, latencies logarithmic. Rungs without an answer have no point."""
    values = [getattr(rung, key) for rung in report.ladder for _, key, _ in CURVES]
    finite = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
    low, high = (
        math.floor(math.log10(min(finite))),
        max(math.ceil(math.log10(max(finite))), math.floor(math.log10(min(finite))) + 1),
    )
    most = report.ceiling_rps * 1.02

    def at(rate_rps: float, ms: float) -> tuple[float, float]:
        """A point in the picture."""
        x = LEFT + (WIDTH - LEFT - RIGHT) * rate_rps / most
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log10(ms) - low) / (high - low)
        return x, y

    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _words(LEFT, 22, "Latency over rate, open loop", "start", 15),
    ]
    for power in range(low, high + 1):
        _, y = at(0, 10.0**power)
        parts += [_line(LEFT, y, WIDTH - RIGHT, y, "#ddd"), _words(LEFT - 8, y + 4, f"{10.0**power:g} ms", "end")]
    for step in range(6):
        x, _ = at(most * step / 5, 10.0**low)
        parts += [
            _line(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 5, "#888"),
            _words(x, HEIGHT - BOTTOM + 20, f"{most * step / 5:.0f}"),
        ]
    x, _ = at(report.ceiling_rps, 10.0**low)
    parts += [_line(x, TOP, x, HEIGHT - BOTTOM, "#888", "4 4"), _words(x - 6, TOP + 12, "ceiling", "end")]
    parts.append(_words((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "requests per second"))
    ends: list[float] = []
    for name, key, colour in CURVES:
        points = [at(rung.rate_rps, getattr(rung, key)) for rung in report.ladder if math.isfinite(getattr(rung, key))]
        if not points:
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        label_y = points[-1][1]
        while any(abs(label_y - other) < 14 for other in ends):
            label_y -= 14
        ends.append(label_y)
        parts.append(_words(points[-1][0] + 8, label_y + 4, name, "start", 12, colour))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">{"".join(parts)}</svg>\n'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    """A line."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'


def _words(x: float, y: float, text: str, anchor: str = "middle", size: int = 12, colour: str = "#333") -> str:
    """Some words."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{text}</text>'
