"""A request in the queue of the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from potstill.serve.http.hosting.open_bundle import AS_USUAL, HostedBundle, Reading, TimedAnswer


class Expired(Exception):
    """The deadline passed, or would have passed, before a worker began the job."""


class Job:
    """The texts of one request. Workers take them one by one, so that a large request does not occupy a worker for long."""

    __slots__ = (
        "answers",
        "costs",
        "deadline_s",
        "failure",
        "future",
        "hosted",
        "is_probe",
        "n_left",
        "n_taken",
        "queue_s",
        "rank_s",
        "reading",
        "start_s",
        "targets",
        "texts",
        "units",
        "usual",
        "waits",
    )

    def __init__(
        self,
        hosted: HostedBundle,
        texts: Sequence[str],
        targets: Sequence[str] | None,
        *,
        start_s: float,
        deadline_s: float,
        reading: Reading = AS_USUAL,
    ) -> None:
        """Estimate the cost of the texts.

        Args:
            hosted: the version that answers, even if it is replaced meanwhile.
            texts: at least one.
            targets: one for each text, or None.
            start_s: when the request was received, by `time.monotonic`.
            deadline_s: when its answer is due, by the same clock.
            reading: how its texts are read.
        """
        self.hosted, self.texts, self.targets, self.reading = hosted, texts, targets, reading
        self.start_s, self.deadline_s = start_s, deadline_s
        prices = [hosted.price(text, reading) for text in texts]
        self.costs = [seconds for seconds, _ in prices]  # of an idle core
        self.usual = [is_usual for _, is_usual in prices]
        self.units = sum(self.costs)  # of the texts that no worker has taken yet
        self.n_taken, self.n_left = 0, len(texts)
        self.answers: list[TimedAnswer | None] = [None] * len(texts)
        self.rank_s = deadline_s  # its place in the queue; see `Workers`
        self.is_probe = False  # accepted to test the estimate, as no other job was there
        self.waits = False  # all workers were busy when it arrived
        self.queue_s = 0.0  # from receipt until the first text was taken
        self.failure: BaseException | None = None
        self.future: asyncio.Future[None] | None = None

    def work(self, index: int) -> TimedAnswer:
        """Classify one of the texts; raises UserError."""
        target = None if self.targets is None else self.targets[index]
        return self.hosted.answer(self.texts[index], target, self.reading)

    def results(self) -> list[TimedAnswer]:
        """The answers in the order of the texts; complete once all are done."""
        return [one for one in self.answers if one is not None]
