"""The figures of a server's benchmark, as a table and as a plot of latency over rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

OVERLOAD = 2.0  # times the ceiling
LATE_MS = 50.0  # if the client sends later than this, latencies are its own

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 64, 64, 36, 52
CURVES = (("p50", "p50_ms", "#2f6f5e"), ("p95", "p95_ms", "#5b7fb4"), ("p99", "p99_ms", "#b07d2b"), ("p99.9", "p999_ms", "#a33a2a"))


class Rung(msgspec.Struct, frozen=True):
    """The figures at one rate."""

    rate_rps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    goodput_rps: float
    shed_share: float
    late_p99_ms: float  # the client's delay between due time and sending
    n: int


class ServerBenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one server."""

    added_p50_ms: float | None  # HTTP on one connection minus the classifier in process, at 32 tokens; None without the bundle
    http_p50_ms: float | None
    in_process_p50_ms: float | None
    ceiling_rps: float
    limit_rps: float | None  # of the classifier in process, on all usable cores
    ceiling_over_limit: float | None
    over_best_peer: float | None = None  # needs peers: benchmarks/serve_peers.py
    overload_goodput: float  # answers within the deadline at twice the ceiling, divided by the ceiling
    overload_p99_ms: float  # of the answers at that rate
    overload_shed: float  # share of requests refused at that rate
    overload_late_p99_ms: float  # the client's delay, as in a rung
    errors_5xx: int
    rss_mb: float
    rss_growth_mb: float  # over n_soak requests
    n_soak: int
    cpu_ms_per_request: float  # of the server
    lost: int  # requests accepted and not answered, in all measurements
    n_signals: int
    ladder: list[Rung]
    n: int  # requests in all

    def as_text(self) -> str:
        """The figures as a table."""
        lines = [
            f"one connection  p50 {_shown(self.http_p50_ms, '.3f')} ms, {_shown(self.added_p50_ms, '+.3f')} ms over in process",
            f"ceiling         {self.ceiling_rps:.0f} requests/s, {_shown(self.ceiling_over_limit, '.2f')} of "
            f"{_shown(self.limit_rps, '.0f')} in process",
            f"CPU, memory     {self.cpu_ms_per_request:.3f} ms a request; {self.rss_mb:.0f} MB, {self.rss_growth_mb:+.1f} MB over "
            f"{self.n_soak} requests",
            "",
            "requests/s   p50 ms   p95 ms   p99 ms  p99.9 ms  goodput/s  refused",
        ]
        lines += [
            f"{one.rate_rps:10.0f} {one.p50_ms:8.2f} {one.p95_ms:8.2f} {one.p99_ms:8.2f} {one.p999_ms:9.2f} {one.goodput_rps:10.0f}"
            f" {one.shed_share:7.1%}"
            for one in self.ladder
        ]
        late = max(self.overload_late_p99_ms, *(one.late_p99_ms for one in self.ladder))
        if late > LATE_MS:
            lines.append(
                f"the client was up to {late:.0f} ms late: it has too little CPU for this rate, so these latencies include its own"
            )
        return "\n".join(
            [
                *lines,
                "",
                f"at {OVERLOAD:g} x      goodput {self.overload_goodput:.2f} of the ceiling, p99 {self.overload_p99_ms:.0f} ms, "
                f"{self.overload_shed:.0%} refused",
                f"errors          {self.errors_5xx} with status 5xx, {self.lost} of {self.n} lost, {self.n_signals} signals each",
            ]
        )


def _shown(value: float | None, form: str) -> str:
    """A formatted number, or a dash."""
    return "-" if value is None else format(value, form)


# --- the plot


def plot(report: ServerBenchReport) -> str:
    """Plot latency (logarithmic) over rate (linear) as one self-contained SVG; rungs without an answer are left out."""
    values = [getattr(rung, key) for rung in report.ladder for _, key, _ in CURVES]
    finite = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
    low = math.floor(math.log10(min(finite)))
    scale = _Scale(report.ceiling_rps * 1.02, low, max(math.ceil(math.log10(max(finite))), low + 1))
    x, _ = scale.at(report.ceiling_rps, 10.0**low)
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _label(LEFT, 22, "Latency over rate, open loop", "start", 15),
        *_axes(scale),
        _line(x, TOP, x, HEIGHT - BOTTOM, "#888", "4 4"),
        _label(x - 6, TOP + 12, "ceiling", "end"),
        _label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "requests per second"),
        *_curves(report.ladder, scale),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">{"".join(parts)}</svg>\n'
    )


@dataclass(frozen=True)
class _Scale:
    """The range of both axes."""

    most_rps: float
    low: int  # exponents of 10 of the latency in milliseconds
    high: int

    def at(self, rate_rps: float, ms: float) -> tuple[float, float]:
        """The position of a point."""
        x = LEFT + (WIDTH - LEFT - RIGHT) * rate_rps / self.most_rps
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log10(ms) - self.low) / (self.high - self.low)
        return x, y


def _axes(scale: _Scale) -> list[str]:
    """A grid line for each power of ten, and ticks on the axis of rates."""
    parts = []
    for power in range(scale.low, scale.high + 1):
        _, y = scale.at(0, 10.0**power)
        parts += [_line(LEFT, y, WIDTH - RIGHT, y, "#ddd"), _label(LEFT - 8, y + 4, f"{10.0**power:g} ms", "end")]
    for step in range(6):
        rate_rps = scale.most_rps * step / 5
        x, _ = scale.at(rate_rps, 10.0**scale.low)
        parts += [_line(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 5, "#888"), _label(x, HEIGHT - BOTTOM + 20, f"{rate_rps:.0f}")]
    return parts


def _curves(ladder: list[Rung], scale: _Scale) -> list[str]:
    """One line for each percentile, named at its end."""
    parts: list[str] = []
    ends: list[float] = []
    for name, key, colour in CURVES:
        points = [scale.at(rung.rate_rps, getattr(rung, key)) for rung in ladder if math.isfinite(getattr(rung, key))]
        if not points:
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        label_y = points[-1][1]
        while any(abs(label_y - other) < 14 for other in ends):  # names must not overlap
            label_y -= 14
        ends.append(label_y)
        parts.append(_label(points[-1][0] + 8, label_y + 4, name, "start", 12, colour))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    """An SVG line."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'


def _label(x: float, y: float, text: str, anchor: str = "middle", size: int = 12, colour: str = "#333") -> str:
    """An SVG text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{text}</text>'
