"""Metrics of the server: times, tokens, labels, confidence, refusals. No metric contains a text."""

from __future__ import annotations

import resource

from potstill.contract.system.memory import resident_bytes
from potstill.serve.http.hosting.job import Job
from potstill.serve.http.hosting.open_bundle import HostedBundle
from potstill.serve.http.telemetry.prometheus import MetricFamily, MetricsSnapshot, gauge_lines, merge, render_labels
from potstill.serve.http.telemetry.shared_counts import SharedCounts
from potstill.serve.runtime.heads import QuestionAnswer

CPU, MEMORY = "process_cpu_seconds_total", "process_resident_memory_bytes"
SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
TOKENS = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
CONFIDENCE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class ServerMetrics:
    """The metrics of this process, summed over all processes of the server for the page `/metrics`."""

    def __init__(self, shared: SharedCounts | None = None) -> None:
        """Args: memory in which the processes of the server share their counts, if there are several."""
        self.requests = MetricFamily("potstill_requests_total", "Requests by path and status.", ("path", "status"))
        self.shed = MetricFamily("potstill_shed_total", "Requests without an answer, by reason.", ("reason",))
        self.tokenize = MetricFamily("potstill_tokenize_seconds", "Tokenizing one text.", ("bundle",), SECONDS)
        self.queue = MetricFamily(
            "potstill_queue_seconds", "From the receipt of a request to the start of its first text.", ("bundle",), SECONDS
        )
        self.infer = MetricFamily("potstill_infer_seconds", "Model and threshold for one text.", ("bundle",), SECONDS)
        self.total = MetricFamily("potstill_request_seconds", "From the receipt of a request to its reply.", ("bundle",), SECONDS)
        self.tokens = MetricFamily("potstill_text_tokens", "Tokens of one text, after truncation.", ("bundle",), TOKENS)
        self.labels = MetricFamily("potstill_labels_total", "Texts by label and abstention.", ("bundle", "label", "abstain"))
        self.answers = MetricFamily(
            "potstill_answers_total",
            "Answers to one of several questions by label and abstention; of tags those that hold, or an empty label.",
            ("bundle", "question", "label", "abstain"),
        )
        self.answer_confidence = MetricFamily(
            "potstill_answer_confidence",
            "Probability of the most probable label of one of several questions.",
            ("bundle", "question"),
            CONFIDENCE,
        )
        self.unfamiliar = MetricFamily(
            "potstill_unfamiliar_total", "Texts unlike those that the bundle was made from, by label.", ("bundle", "label")
        )
        self.confidence = MetricFamily(
            "potstill_confidence", "Probability of a text's most probable label.", ("bundle",), CONFIDENCE
        )
        self.reloads = MetricFamily(
            "potstill_reloads_total", "Checks for a new version of a bundle, by outcome.", ("bundle", "outcome")
        )
        self.teacher = MetricFamily("potstill_teacher_total", "Texts that the teacher was to answer, by outcome.", ("outcome",))
        self.teacher_s = MetricFamily("potstill_teacher_seconds", "From asking the teacher to its answer.", (), SECONDS)
        self.audit = MetricFamily("potstill_audit_total", "Texts that were drawn for the audit, by outcome.", ("outcome",))
        self.lost_lines = MetricFamily("potstill_lost_log_lines_total", "Log lines that could not be written.")
        self._all = (
            self.requests, self.shed, self.tokenize, self.queue, self.infer, self.total, self.tokens, self.labels, self.answers,
            self.unfamiliar, self.confidence, self.answer_confidence, self.reloads, self.teacher, self.teacher_s, self.audit,
            self.lost_lines,
        )  # fmt: skip
        self._shared = shared
        if shared is not None:  # a process that replaces a dead one continues its counts
            for metric in self._all:
                metric.values.update(shared.own().get(metric.name, {}))

    def answered(self, job: Job, now: float) -> None:
        """Count an answered job. Args: now, in seconds, by `time.monotonic`."""
        bundle = job.hosted.name
        self.queue.observe(job.queue_s, bundle)
        self.total.observe(now - job.start_s, bundle)
        for timed in job.results():
            answer = timed.own or timed.answer  # drift shows in what the bundle says, whoever answers
            self.tokenize.observe(timed.tokenize_s, bundle)
            self.infer.observe(timed.infer_s, bundle)
            self.tokens.observe(timed.n_tokens, bundle)
            if answer.unfamiliar:
                self.unfamiliar.add(bundle, answer.label)
            if answer.questions is not None:
                self._of_questions(bundle, answer.questions)
                continue
            self.labels.add(bundle, answer.label, "true" if answer.abstain else "false")
            self.confidence.observe(answer.probs[answer.label], bundle)

    def _of_questions(self, bundle: str, questions: dict[str, QuestionAnswer]) -> None:
        """Count the answers to several questions about one text."""
        for name, one in questions.items():
            for label in [one.label] if one.tags is None else one.tags or [""]:
                self.answers.add(bundle, name, label, "true" if one.abstain else "false")
            if one.tags is None:
                self.answer_confidence.observe(one.probs[one.label], bundle, name)

    def publish(self) -> None:
        """Publish this process's counts to the others."""
        if self._shared is not None:
            self._shared.write(self._snapshot())

    def page(self, hosted: list[HostedBundle], wait_s: float, ready: bool) -> str:
        """The page `/metrics`. Args: the bundles; estimated wait of a new text; what /readyz says."""
        self.publish()
        values = merge(self._shared.all()) if self._shared is not None else self._snapshot()
        lines = [line for metric in self._all for line in metric.lines(values.get(metric.name, {}))]
        info = {
            render_labels(
                [("bundle", one.name), ("name", one.manifest.name), ("digest", one.digest), ("variant", one.manifest.variant)]
            ): 1.0
            for one in hosted
        }
        lines += gauge_lines("potstill_bundle_info", "The bundles of the server; always 1.", info)
        lines += gauge_lines("potstill_wait_seconds", "Estimated wait of a new text, in the process that replied.", {"": wait_s})
        lines += gauge_lines("potstill_ready", "1 if /readyz says ready, in the process that replied.", {"": float(ready)})
        lines += _process_lines(values)
        return "\n".join(lines) + "\n"

    def _snapshot(self) -> MetricsSnapshot:
        """The counts of this process, with its CPU time and memory."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        process = {CPU: usage.ru_utime + usage.ru_stime, MEMORY: float(resident_bytes())}
        return {metric.name: metric.values for metric in self._all} | {name: {"": [value]} for name, value in process.items()}


def _process_lines(values: MetricsSnapshot) -> list[str]:
    """CPU time and memory, summed over all processes, under the names that Prometheus's libraries use for one process."""
    lines = [
        f"# HELP {CPU} User and system CPU time of all serving processes.",
        f"# TYPE {CPU} counter",
        f"{CPU} {values[CPU][''][0]:.6f}",
    ]
    return [
        *lines,
        *gauge_lines(MEMORY, "Resident memory of all serving processes; shared pages count in each.", {"": values[MEMORY][""][0]}),
    ]
