"""The result of load on a server, whether from an open loop or a closed one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from potstill.serve.bench.load.client import REFUSED

SHED = (429, 504)  # statuses with which an overloaded server refuses a request


@dataclass
class LoadResult:
    """Statuses and latencies of all requests of one load."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)  # of answers with status 200
    late_s: list[float] = field(default_factory=list)  # of an open loop's requests: delay between due time and sending

    @property
    def n(self) -> int:
        """Number of requests."""
        return sum(self.statuses.values())

    @property
    def answered_rps(self) -> float:
        """Answers per second."""
        return self.statuses[200] / self.seconds

    def goodput_rps(self, deadline_s: float) -> float:
        """Answers per second that arrived within the deadline, in seconds."""
        return sum(latency <= deadline_s for latency in self.latencies_s) / self.seconds

    def percentiles_ms(self, *percents: float) -> list[float]:
        """Percentiles (0 to 100) of the answers' latency in milliseconds; NaN without an answer."""
        if not self.latencies_s:
            return [float("nan")] * len(percents)
        return [float(value) * 1e3 for value in np.percentile(self.latencies_s, percents)]

    def late_p99_ms(self) -> float:
        """99th percentile of the client's own delay in milliseconds; 0 for a closed loop."""
        return float(np.percentile(self.late_s, 99)) * 1e3 if self.late_s else 0.0

    def shed_share(self) -> float:
        """Share of the requests that the server refused because it was overloaded, 0 to 1."""
        return sum(self.statuses[status] for status in SHED) / max(1, self.n)

    def n_5xx(self) -> int:
        """Number of replies with a server error; 503 and 504 are refusals and do not count."""
        return sum(n for status, n in self.statuses.items() if status >= 500 and status not in (503, 504))

    def n_lost(self) -> int:
        """Number of requests that were sent and got no reply."""
        return sum(n for status, n in self.statuses.items() if status < 0 and status != REFUSED)

    def n_failed(self) -> int:
        """Number of requests that were accepted and got neither an answer nor a refusal."""
        wrong = sum(n for status, n in self.statuses.items() if status > 0 and status not in (200, *SHED))
        return self.n_lost() + wrong
