"""An audit: a random share of all answered texts goes to the teacher too, in the background, and both answers are kept in a file.

Which texts is decided by chance alone, whatever their answers, so the share of agreement among them is that of all. One text at a
time is asked about, after those of requests. Nothing waits for an audit: what is too much for it is left out and counted.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from potstill.contract.fallback.audit import FORMAT, AuditFile, AuditRecord
from potstill.contract.fallback.wire import MAX_CHARS, TeacherReply
from potstill.contract.files.decode import encodable
from potstill.serve.http.config import AuditSettings
from potstill.serve.http.hosting.job import Job
from potstill.serve.http.teacher.connection import TeacherConnection
from potstill.serve.http.telemetry.metrics import ServerMetrics
from potstill.serve.runtime.classifier import Answer

MOST_WAITING = 200  # texts of a process that were drawn and not asked about yet
PATIENCE_S = 60.0  # for a reply
LOOK_S = 0.05  # between two looks whether the teacher has time


@dataclass(frozen=True, slots=True)
class Drawn:
    """A text that was drawn, and the bundle's answer to it."""

    bundle: str
    version: str
    text: str
    target: str | None
    answer: Answer
    teacher_probs: dict[str, float] | None  # if the teacher has given the answer anyway


class Auditor:
    """Draws texts, asks the teacher about them, and writes them down, in the event loop's thread but for the writing."""

    def __init__(
        self,
        settings: AuditSettings,
        connection: TeacherConnection,
        may_ask: Callable[[], bool],
        metrics: ServerMetrics,
        tell: Callable[[str], None],
    ) -> None:
        """Open the file.

        Args:
            settings: the share, and the file.
            connection: to the teacher.
            may_ask: takes a question from what the teacher may be asked; False: none is left now.
            metrics: where texts are counted.
            tell: logs a line.
        Raises:
            UserError: as `AuditFile`.
        """
        self._share, self._connection, self._may_ask = settings.share, connection, may_ask
        self._metrics, self._tell = metrics, tell
        self._file = AuditFile(Path(settings.file), settings.max_bytes)
        self._random = random.Random(secrets.randbits(256))  # nobody can tell which texts will be drawn
        self._drawn: asyncio.Queue[Drawn] = asyncio.Queue(MOST_WAITING)
        self._is_full = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask; call it in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Stop, and close the file."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._file.close()

    def draw(self, job: Job) -> None:
        """Draw from the texts of a job that has been answered."""
        for index, timed in enumerate(job.answers):
            if timed is None or self._random.random() >= self._share:
                continue
            drawn = Drawn(
                bundle=job.hosted.name,
                version=job.hosted.version,
                text=job.texts[index][:MAX_CHARS],
                target=None if job.targets is None else job.targets[index],
                answer=timed.own or timed.answer,
                teacher_probs=None if timed.own is None else timed.answer.probs,
            )
            try:
                self._drawn.put_nowait(drawn)
            except asyncio.QueueFull:
                self._metrics.audit.add("dropped")

    async def _work(self) -> None:
        """Take one drawn text after the other."""
        while True:
            drawn = await self._drawn.get()
            probs = drawn.teacher_probs or await self._asked(drawn)
            self._metrics.audit.add("unanswered" if probs is None else await asyncio.to_thread(self._write, drawn, probs))

    async def _asked(self, drawn: Drawn) -> dict[str, float] | None:
        """The teacher's probabilities, None if it gives none in time."""
        end_s = time.monotonic() + PATIENCE_S
        while not self._may_ask():
            if time.monotonic() > end_s:
                return None
            await asyncio.sleep(LOOK_S)
        future = self._connection.ask(drawn.text, drawn.target, end_s, background=True)
        await asyncio.wait([future], timeout=end_s - time.monotonic())
        reply = future.result() if future.done() else None
        return reply.probs if isinstance(reply, TeacherReply) else None

    def _write(self, drawn: Drawn, teacher_probs: dict[str, float]) -> str:
        """Write a record; returns the outcome."""
        record = AuditRecord(
            format=FORMAT,
            at=round(time.time(), 3),
            bundle=drawn.bundle,
            version=drawn.version,
            text=encodable(drawn.text),
            target=None if drawn.target is None else encodable(drawn.target),
            probs=drawn.answer.probs,
            abstain=drawn.answer.abstain,
            unfamiliar=drawn.answer.unfamiliar,
            teacher=self._connection.teacher,
            teacher_probs=teacher_probs,
        )
        try:
            written = self._file.add(record)
        except OSError as error:
            self._tell(f"an audited text could not be written: {error.strerror or error}")
            return "lost"
        if not written and not self._is_full:
            self._is_full = True
            self._tell("the audit file is full: no more texts are written to it")
        return "stored" if written else "full"
