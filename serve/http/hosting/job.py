"""A request on its way through the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from potstill.serve.http.hosting.hosted_bundle import HostedBundle, TimedAnswer


class Expired(Exception):
    """The deadline passed, or would have, before the work was begun."""


class Job:
    """The texts of one request. Workers take them one by one, so that a large request keeps no worker to itself."""

    __slots__ = (
        "costs",
        "deadline_s",
        "failure",
        "future",
        "hosted",
        "is_probe",
        "n_left",
        "n_taken",
        "queue_s",
        "sets",
        "start_s",
        "targets",
        "texts",
        "units",
        "waits",
        "worked",
    )

    def __init__(
        self,
        hosted: HostedBundle,
        texts: Sequence[str],
        targets: Sequence[str] | None,
        *,
        start_s: float,
        deadline_s: float,
        sets: bool = False,
    ) -> None:
        """Count what the texts will cost.

        Args:
            hosted: the version that answers, whatever is loaded meanwhile.
            texts: at least one.
            targets: one for each text, or None.
            start_s: when the request came in, by `time.monotonic`.
            deadline_s: when its answer is worth nothing any more, by the same clock.
            sets: whether answers list their label sets.
        """
        self.hosted, self.texts, self.targets, self.sets = hosted, texts, targets, sets
        self.start_s, self.deadline_s = start_s, deadline_s
        self.costs = [hosted.cost.seconds(len(text)) for text in texts]  # seconds of an idle core
        self.units = sum(self.costs)  # of the texts that nobody has taken yet
        self.n_taken, self.n_left = 0, len(texts)
        self.worked: list[TimedAnswer | None] = [None] * len(texts)
        self.is_probe = False  # whether it was accepted to put the estimate to the test
        self.waits = False  # whether all workers were busy when it came
        self.queue_s = 0.0  # until the first text was taken
        self.failure: BaseException | None = None
        self.future: asyncio.Future[None] | None = None

    def work(self, index: int) -> TimedAnswer:
        """Answer one of the texts; raises UserError."""
        target = None if self.targets is None else self.targets[index]
        return self.hosted.answer(self.texts[index], target, sets=self.sets)

    def results(self) -> list[TimedAnswer]:
        """What came of every text, in order, once all are done."""
        return [worked for worked in self.worked if worked is not None]
