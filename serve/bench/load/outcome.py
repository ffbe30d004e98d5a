"""What comes of load on a server; `load_open.py` and `load_closed.py` make it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from potstill.serve.bench.load.client import REFUSED

SEED = 0


@dataclass
class Outcome:
    """What came of some load."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)  # of answers with status 200
    late_s: list[float] = field(default_factory=list)  # of the requests of an open loop: how long after its time each was sent

    @property
    def n(self) -> int:
        """Requests."""
        return sum(self.statuses.values())

    @property
    def answered_rps(self) -> float:
        """Answers a second."""
        return self.statuses[200] / self.seconds

    def goodput_rps(self, deadline_s: float) -> float:
        """Answers a second that came within the deadline."""
        return sum(latency <= deadline_s for latency in self.latencies_s) / self.seconds

    def percentiles_ms(self, *percents: float) -> list[float]:
        """Latencies of answers in milliseconds; NaN without any."""
        if not self.latencies_s:
            return [float("nan")] * len(percents)
        return [float(value) * 1e3 for value in np.percentile(self.latencies_s, percents)]

    def late_p99_ms(self) -> float:
        """How late the client itself was; 0 if nothing was to be sent at a time."""
        return float(np.percentile(self.late_s, 99)) * 1e3 if self.late_s else 0.0

    def share(self, *statuses: int) -> float:
        """Share of the requests with one of these statuses."""
        return sum(self.statuses[status] for status in statuses) / max(1, self.n)

    def n_5xx(self) -> int:
        """Replies that are the server's fault; 503 and 504 are refusals."""
        return sum(n for status, n in self.statuses.items() if status >= 500 and status not in (503, 504))

    def n_lost(self) -> int:
        """Requests that were sent, and got no reply."""
        return sum(n for status, n in self.statuses.items() if status < 0 and status != REFUSED)


def mixed(requests: Sequence[bytes], seed: int = SEED) -> list[bytes]:
    """The requests in an order that has nothing to do with their lengths."""
    shuffled = list(requests)
    random.Random(seed).shuffle(shuffled)
    return shuffled
