"""Counters and histograms in the text format of Prometheus, version 0.0.4.

Source of the format: prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from potstill.contract.files.decode import encodable

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

Values = dict[str, list[float]]  # of one family, by rendered labels: [1] of a counter, [buckets + 1] with the sum of a histogram
MetricsSnapshot = dict[str, Values]  # of all families, by name


@dataclass(frozen=True)
class MetricFamily:
    """A counter, or a histogram if it has upper bounds of buckets; a last bucket without a bound is added."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] | None = None
    values: Values = field(default_factory=dict)
    _keys: dict[tuple[str, ...], str] = field(default_factory=dict)

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """Increase a counter. Args: values of the labels, in order; amount, at least 0, in the counter's unit."""
        self._row(labels, 1)[0] += amount

    def observe(self, value: float, *labels: str) -> None:
        """Add a value to a histogram. Args: value, in the unit of the bounds; values of the labels, in order."""
        bounds = self.bounds or ()
        row = self._row(labels, len(bounds) + 2)
        row[bisect_left(bounds, value)] += 1
        row[-1] += value

    def _row(self, labels: tuple[str, ...], n: int) -> list[float]:
        """The numbers of a set of labels; zeros when it is new."""
        key = self._keys.get(labels)
        if key is None:
            key = self._keys[labels] = render_labels(zip(self.labels, labels, strict=True))
        row = self.values.get(key)
        if row is None:
            row = self.values[key] = [0.0] * n
        return row

    def lines(self, values: Values) -> Iterable[str]:
        """The lines of this family in the text format. Args: values, of this process or summed over several."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {'counter' if self.bounds is None else 'histogram'}"
        for key, row in values.items():
            if self.bounds is None:
                yield f"{self.name}{_braces(key)} {row[0]:.17g}"
                continue
            total = 0.0
            for bound, n in zip([*(f"{bound:g}" for bound in self.bounds), "+Inf"], row[:-1], strict=True):
                total += n
                le = f'le="{bound}"'
                yield f"{self.name}_bucket{_braces(f'{key},{le}' if key else le)} {total:.17g}"
            yield f"{self.name}_sum{_braces(key)} {row[-1]:.17g}"
            yield f"{self.name}_count{_braces(key)} {total:.17g}"


def gauge_lines(name: str, meaning: str, values: Mapping[str, float]) -> list[str]:
    """The lines of a gauge. Args: values, by rendered labels, in the unit that the name ends with."""
    rows = [f"{name}{_braces(key)} {value:.17g}" for key, value in values.items()]
    return [f"# HELP {name} {meaning}", f"# TYPE {name} gauge", *rows]


def merge(snapshots: Iterable[MetricsSnapshot]) -> MetricsSnapshot:
    """Sum the snapshots of several processes."""
    total: MetricsSnapshot = {}
    for snapshot in snapshots:
        for name, values in snapshot.items():
            rows = total.setdefault(name, {})
            for key, row in values.items():
                rows[key] = [a + b for a, b in zip(rows[key], row, strict=True)] if key in rows else list(row)
    return total


def render_labels(pairs: Iterable[tuple[str, str]]) -> str:
    """Labels in the text format, without the braces."""
    return ",".join(f'{name}="{_escape(value)}"' for name, value in pairs)


def _escape(value: str) -> str:
    """Escape the value of a label; a lone surrogate, which UTF-8 cannot encode, becomes a question mark."""
    clean = encodable(value)
    return clean.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _braces(key: str) -> str:
    """Rendered labels in braces, or nothing if there are none."""
    return f"{{{key}}}" if key else ""
