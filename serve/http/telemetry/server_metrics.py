"""What the server counts: times, tokens, labels, confidence, and what it refused. Never a text."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from potstill.serve.http.hosting.hosted_bundle import HostedBundle
from potstill.serve.http.hosting.job import Job
from potstill.serve.http.telemetry.prometheus import MetricFamily as Family
from potstill.serve.http.telemetry.prometheus import MetricsSnapshot, gauge_lines, merge, render_labels
from potstill.serve.http.telemetry.shared_counts import SharedCounts

CPU, MEMORY = "process_cpu_seconds_total", "process_resident_memory_bytes"
SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
TOKENS = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
CONFIDENCE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class ServerMetrics:
    """The metrics of this process, and their sum over all processes of the server."""

    def __init__(self, shared: SharedCounts | None = None) -> None:
        """Args: where the processes of a server put their counts together, if there are several."""
        self.requests = Family("potstill_requests_total", "Requests by path and status.", ("path", "status"))
        self.shed = Family("potstill_shed_total", "Requests without an answer, by reason.", ("reason",))
        self.tokenize = Family("potstill_tokenize_seconds", "Tokenizing one text.", ("bundle",), SECONDS)
        self.queue = Family("potstill_queue_seconds", "From the request's receipt to its first text's turn.", ("bundle",), SECONDS)
        self.infer = Family("potstill_infer_seconds", "The model's run and the decision for one text.", ("bundle",), SECONDS)
        self.total = Family("potstill_request_seconds", "From a request's receipt to its reply.", ("bundle",), SECONDS)
        self.tokens = Family("potstill_text_tokens", "Tokens of one text, after truncation.", ("bundle",), TOKENS)
        self.labels = Family("potstill_labels_total", "Texts by label and abstention.", ("bundle", "label", "abstain"))
        self.confidence = Family("potstill_confidence", "Probability of a text's most probable label.", ("bundle",), CONFIDENCE)
        self.reloads = Family("potstill_reloads_total", "Looks for a new version of a bundle, by outcome.", ("bundle", "outcome"))
        self.lost_lines = Family("potstill_lost_log_lines_total", "Lines that could not be written to the log.")
        self._all = (
            self.requests, self.shed, self.tokenize, self.queue, self.infer, self.total, self.tokens, self.labels, self.confidence,
            self.reloads, self.lost_lines,
        )  # fmt: skip
        self._shared = shared
        if shared is not None:  # a process that takes the place of one that died counts on from there
            for metric in self._all:
                metric.values.update(shared.own().get(metric.name, {}))

    def answered(self, job: Job, now: float) -> None:
        """Count an answered job."""
        bundle = job.hosted.name
        self.queue.observe(job.queue_s, bundle)
        self.total.observe(now - job.start_s, bundle)
        for worked in job.results():
            answer = worked.answer
            self.tokenize.observe(worked.tokenize_s, bundle)
            self.infer.observe(worked.infer_s, bundle)
            self.tokens.observe(worked.n_tokens, bundle)
            self.labels.add(bundle, answer.label, "true" if answer.abstain else "false")
            self.confidence.observe(answer.probs[answer.label], bundle)

    def publish(self) -> None:
        """Show this process's counts to the others."""
        if self._shared is not None:
            self._shared.write(self._snapshot())

    def page(self, hosted: list[HostedBundle], wait_s: float, ready: bool) -> str:
        """Everything, as Prometheus reads it."""
        self.publish()
        values = merge(self._shared.all()) if self._shared is not None else self._snapshot()
        lines = [line for metric in self._all for line in metric.lines(values.get(metric.name, {}))]
        info = {
            render_labels(
                [("bundle", one.name), ("name", one.manifest.name), ("digest", one.digest), ("variant", one.manifest.variant)]
            ): 1.0
            for one in hosted
        }
        lines += gauge_lines("potstill_bundle_info", "The bundles that are served; always 1.", info)
        lines += gauge_lines("potstill_wait_seconds", "Estimated wait of a new text, in the process that was asked.", {"": wait_s})
        lines += gauge_lines("potstill_ready", "Whether /readyz says so, in the process that was asked.", {"": float(ready)})
        lines += _process_lines(values)
        return "\n".join(lines) + "\n"

    def _snapshot(self) -> MetricsSnapshot:
        """The counts of this process, and what it takes."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        takes = {CPU: usage.ru_utime + usage.ru_stime, MEMORY: float(resident_bytes())}
        return {metric.name: metric.values for metric in self._all} | {name: {"": [value]} for name, value in takes.items()}


def _process_lines(values: MetricsSnapshot) -> list[str]:
    """CPU time and memory of all processes that answer, under the names that Prometheus's own libraries use for one."""
    lines = [
        f"# HELP {CPU} User and system CPU time, of all processes that answer.",
        f"# TYPE {CPU} counter",
        f"{CPU} {values[CPU][''][0]:.6f}",
    ]
    return [
        *lines,
        *gauge_lines(
            MEMORY, "Resident memory, of all processes that answer; what they share counts in each.", {"": values[MEMORY][""][0]}
        ),
    ]


def resident_bytes(process: int | str = "self") -> int:
    """Resident memory of a process, where Linux tells; else the most that this one ever had."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
