"""Which texts the teacher behind the server is asked about, and what becomes of them when it does not answer well or in time.

A text goes to the teacher if the bundle's own answer should not stand: it abstains, or the text is unlike those it was made from.
All hard texts of a request are asked at once. The request waits for them no longer than its deadline allows; whatever the teacher
did by then, it is answered.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

from potstill.contract.fallback.wire import TeacherReply
from potstill.serve.http.config import TeacherLink
from potstill.serve.http.hosting.job import Job
from potstill.serve.http.hosting.open_bundle import HostedBundle, TimedAnswer
from potstill.serve.http.teacher.auditing import Auditor
from potstill.serve.http.teacher.connection import Failure, TeacherConnection
from potstill.serve.http.telemetry.metrics import ServerMetrics
from potstill.serve.runtime.classifier import Answer

RESERVE_S = 0.02  # of a request's time, kept for writing the reply
LEAST_S = 0.005  # to be left for the teacher; with less it is not asked
MINUTE_S = 60.0

Outcome = Literal["answered", "late", "dead", "failed", "busy", "budget", "nonsense", "too long"]


def wants_teacher(answer: Answer) -> bool:
    """Whether an answer of the bundle should be given by the teacher instead."""
    return answer.abstain or answer.unfamiliar is True


class TeacherBudget:
    """So many questions in any minute, and no more."""

    def __init__(self, per_minute: int) -> None:
        """Args: per_minute, at least 0."""
        self._per_minute = per_minute
        self._spent: deque[float] = deque()  # moments of the questions of the last minute

    def take(self, now: float) -> bool:
        """Take one question from the budget; returns False if none is left. Args: now, by `time.monotonic`."""
        while self._spent and self._spent[0] <= now - MINUTE_S:
            self._spent.popleft()
        if len(self._spent) >= self._per_minute:
            return False
        self._spent.append(now)
        return True


class TeacherDesk:
    """Asks the teacher about hard texts, within its bounds; everything runs in the event loop's thread."""

    def __init__(self, link: TeacherLink, metrics: ServerMetrics, tell: Callable[[str], None]) -> None:
        """Open the audit's file, if there is one, and no connection yet.

        Args:
            link: this process's.
            metrics: where texts are counted.
            tell: logs a line.
        Raises:
            UserError: if the audit's file cannot be written.
        """
        self._link, self._metrics = link, metrics
        self._budget = TeacherBudget(link.per_minute)
        self._connection = TeacherConnection(link.socket, link.labels, tell)
        self._labels = frozenset(link.labels)
        self._auditor = None
        if link.audit is not None:
            self._auditor = Auditor(link.audit, self._connection, self._may_ask, metrics, tell)

    def start(self) -> None:
        """Connect to the teacher; call it in the event loop."""
        self._connection.start()
        if self._auditor is not None:
            self._auditor.start()

    async def close(self) -> None:
        """End the connection, and close the audit's file."""
        if self._auditor is not None:
            await self._auditor.close()
        await self._connection.close()

    def is_wanted(self, job: Job) -> bool:
        """Whether the teacher should give one of a job's answers; the job is done."""
        for timed in job.answers:
            if timed is not None and wants_teacher(timed.answer):
                return self.answers_for(job.hosted)
        return False

    def answers_for(self, hosted: HostedBundle) -> bool:
        """Whether the teacher's task is that of a bundle."""
        manifest = hosted.manifest
        same = frozenset(manifest.labels) == self._labels and manifest.target == self._link.target
        return same and manifest.heads is None

    async def consult(self, job: Job) -> None:
        """Put the teacher's answers in the place of those that want it, as far as they come in time; mark the others."""
        now = time.monotonic()
        until_s = min(job.deadline_s - RESERVE_S, now + self._link.wait_ms / 1e3)
        waiting: dict[asyncio.Future[TeacherReply | Failure], TimedAnswer] = {}
        for index, timed in enumerate(job.answers):
            if timed is None or not wants_teacher(timed.answer):
                continue
            refusal = self._refusal(now, until_s)
            if refusal is not None:
                self._mark(timed, refusal)
                continue
            target = None if job.targets is None else job.targets[index]
            waiting[self._connection.ask(job.texts[index], target, until_s)] = timed
        if waiting:
            await asyncio.wait(waiting, timeout=until_s - time.monotonic())
            for future, timed in waiting.items():
                self._settle(future.result() if future.done() else None, timed, job, now)

    def audit(self, job: Job) -> None:
        """Draw from an answered job's texts for the audit, if there is one and the teacher's task is that of the bundle."""
        if self._auditor is not None and self.answers_for(job.hosted):
            self._auditor.draw(job)

    def _may_ask(self) -> bool:
        """Whether the teacher has time for the audit; it then counts against the budget."""
        now = time.monotonic()
        self._connection.drop_if_lost(now)
        # half of its places are kept for requests, but for a teacher that has one alone
        has_place = self._connection.n_asked < max(1, self._link.concurrency // 2)
        return self._connection.is_open and has_place and self._budget.take(now)

    def _refusal(self, now: float, until_s: float) -> Outcome | None:
        """Why the teacher is not asked; None if it is, which counts against the budget."""
        if until_s - now < LEAST_S:
            return "late"
        self._connection.drop_if_lost(now)
        if not self._connection.is_open:
            return "dead"
        if self._connection.n_asked >= self._link.concurrency:
            return "busy"
        return None if self._budget.take(now) else "budget"

    def _settle(self, reply: TeacherReply | Failure | None, timed: TimedAnswer, job: Job, asked_s: float) -> None:
        """Take a reply, or mark the answer with the reason why there is none. Args: asked_s, when it was asked."""
        if not isinstance(reply, TeacherReply):
            self._mark(timed, reply or "late")
            return
        if reply.probs is None:
            self._mark(timed, reply.problem or "nonsense")
            return
        own = timed.answer
        probs = {name: reply.probs[name] for name in job.hosted.manifest.labels}
        label = max(probs, key=probs.__getitem__)
        given = msgspec.structs.replace(own, label=label, probs=probs, abstain=False, verdict="no threshold", threshold=0.0)
        timed.own, timed.answer = own, given
        self._metrics.teacher.add("answered")
        self._metrics.teacher_s.observe(time.monotonic() - asked_s)

    def _mark(self, timed: TimedAnswer, outcome: Outcome) -> None:
        """Say in an answer why the teacher has not given it."""
        timed.teacher = outcome
        self._metrics.teacher.add(outcome)
