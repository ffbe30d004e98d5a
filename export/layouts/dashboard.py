"""A Grafana dashboard of the metrics that `potstill serve` exports: load, times, refusals, and what shows drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

N_COLUMNS, WIDTH, HEIGHT = 2, 12, 8  # of Grafana's grid, which is 24 wide
SCHEMA = 39  # of Grafana 10 and later
RANGE = "5m"  # of a rate
LONG_RANGE = "1h"  # of a share of labels, which drifts slowly


@dataclass(frozen=True)
class Panel:
    """A plot: its title, unit as Grafana calls it, and the queries by legend. `JOB` stands for the selector of the server."""

    title: str
    unit: str
    queries: dict[str, str]


def _quantile(share: float, family: str, by: str = "") -> str:
    """The query of a quantile over all pods, of a histogram. Args: by, a further label with a comma before it."""
    return f"histogram_quantile({share:g}, sum by (le{by}) (rate({family}_bucket{{JOB}}[{RANGE}])))"


def _share(part: str, whole: str, by: str = "") -> str:
    """The query of a share in the last hour, of two counters. Args: by, the label that splits the part."""
    split = f" by ({by})" if by else ""
    return f"sum{split} (increase({part}[{LONG_RANGE}])) / scalar(sum (increase({whole}[{LONG_RANGE}])))"


PANELS = (
    Panel("Requests by status", "reqps", {"{{status}}": f"sum by (status) (rate(potstill_requests_total{{JOB}}[{RANGE}]))"}),
    Panel(
        "Time of a request",
        "s",
        {f"p{share * 100:g}": _quantile(share, "potstill_request_seconds") for share in (0.5, 0.95, 0.99)},
    ),
    Panel(
        "Wait for a worker",
        "s",
        {
            "p95 in the queue": _quantile(0.95, "potstill_queue_seconds"),
            "estimated for a new text, {{pod}}": "max by (pod) (potstill_wait_seconds{JOB})",
        },
    ),
    Panel(
        "Time of a text",
        "s",
        {"tokenizer, p95": _quantile(0.95, "potstill_tokenize_seconds"), "model, p95": _quantile(0.95, "potstill_infer_seconds")},
    ),
    Panel("Requests without an answer", "reqps", {"{{reason}}": f"sum by (reason) (rate(potstill_shed_total{{JOB}}[{RANGE}]))"}),
    Panel(
        "Pods",
        "short",
        {
            "ready": "sum (potstill_ready{JOB})",
            "bundle {{bundle}} {{digest}}": "count by (bundle, digest) (potstill_bundle_info{JOB})",
        },
    ),
    Panel(
        "Share of each label",
        "percentunit",
        {"{{label}}": _share("potstill_labels_total{JOB}", "potstill_labels_total{JOB}", "label")},
    ),
    Panel(
        "Answers to several questions",
        "short",
        {"{{question}}: {{label}}": f"sum by (question, label) (increase(potstill_answers_total{{JOB}}[{LONG_RANGE}]))"},
    ),
    Panel(
        "Abstentions and unfamiliar texts",
        "percentunit",
        {
            "abstained": _share('potstill_labels_total{JOB, abstain="true"}', "potstill_labels_total{JOB}"),
            "unfamiliar": _share("potstill_unfamiliar_total{JOB}", "potstill_text_tokens_count{JOB}"),
        },
    ),
    Panel(
        "Probability of the answer",
        "percentunit",
        {f"p{share * 100:g}": _quantile(share, "potstill_confidence") for share in (0.1, 0.5)}
        | {"p50, {{question}}": _quantile(0.5, "potstill_answer_confidence", ", question")},
    ),
    Panel(
        "Tokens of a text", "short", {"p50": _quantile(0.5, "potstill_text_tokens"), "p95": _quantile(0.95, "potstill_text_tokens")}
    ),
    Panel(
        "Memory and CPU",
        "short",
        {
            "MB, {{pod}}": "sum by (pod) (process_resident_memory_bytes{JOB}) / 1e6",
            "cores, {{pod}}": f"sum by (pod) (rate(process_cpu_seconds_total{{JOB}}[{RANGE}]))",
        },
    ),
)


def dashboard(name: str) -> bytes:
    """The dashboard as Grafana imports it, in JSON. Args: name, of the job that Prometheus gives the server's metrics."""
    content = {
        "title": f"potstill: {name}",
        "uid": name[:40],  # at most 40 characters
        "schemaVersion": SCHEMA,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(number, panel, name) for number, panel in enumerate(PANELS)],
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _panel(number: int, panel: Panel, name: str) -> dict[str, Any]:
    """A plot of Grafana. Args: number, its place; name, of the job."""
    row, column = divmod(number, N_COLUMNS)
    source = {"type": "prometheus", "uid": "${datasource}"}
    targets = [
        {"refId": chr(ord("A") + i), "datasource": source, "legendFormat": legend, "expr": query.replace("JOB", f'job="{name}"')}
        for i, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": column * WIDTH, "y": row * HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }
