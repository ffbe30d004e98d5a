"""The process of the teacher behind a server: `python -m potstill.workflows.fallback.process`, with settings on stdin's first line.

An event loop reads questions and writes replies; threads ask the teacher. Questions of requests come before those in the
background, and one whose time is over is not asked at all. The process ends with its parent, at once: there is nothing to save.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from potstill.contract.errors import UserError
from potstill.contract.fallback import wire
from potstill.contract.fallback.wire import Greeting, NonsenseError, Problem, TeacherQuestion, TeacherReply
from potstill.contract.files import atomic
from potstill.contract.texts import Text
from potstill.serve.http.telemetry.logs_and_traces import ServerLog
from potstill.workflows.fallback.config import ALIVE, OPENED, READY, ProcessConfig
from potstill.workflows.fallback.session import AT_ONCE, TeacherSession

BEAT_S = 0.5  # between two signs of life
STUCK_S = 120.0  # a call of the teacher that lasts longer ends the signs of life, and so the process
MOST_WAITING = 256  # questions of all connections; more are refused
SMOOTHING, FORGET = 0.3, 0.8  # of the time that a call takes: share of the newest one; factor for each time that nobody was asked
QUIET_S = 60.0  # between two lines about failures
NICENESS = 19  # everybody else on the machine comes first, above all the server
OOM_SCORE = 800  # of at most 1000: where memory runs out, this process goes first
CORRECTION_FILE = "correction.json"  # beside the socket: a process that replaces another is ready sooner
SCORE_FILE = Path("/proc/self/oom_score_adj")


@dataclass(frozen=True, slots=True)
class QueuedQuestion:
    """A question, and the connection that its reply goes to."""

    question: TeacherQuestion
    writer: asyncio.StreamWriter


class QuestionQueue:
    """Questions that no thread has taken, those of requests first. Every method may be called from any thread."""

    def __init__(self) -> None:
        """Start empty."""
        self._changed = threading.Condition()
        self._soon: deque[QueuedQuestion] = deque()
        self._background: deque[QueuedQuestion] = deque()

    def put(self, waiting: QueuedQuestion) -> bool:
        """Add a question; returns False if there are too many."""
        with self._changed:
            if len(self._soon) + len(self._background) >= MOST_WAITING:
                return False
            (self._background if waiting.question.background else self._soon).append(waiting)
            self._changed.notify()
            return True

    def take(self, most: int) -> list[QueuedQuestion]:
        """Wait for questions, and take up to that many of requests, or one in the background if there are none."""
        with self._changed:
            while not self._soon and not self._background:
                self._changed.wait()
            if not self._soon:
                return [self._background.popleft()]
            return [self._soon.popleft() for _ in range(min(most, len(self._soon)))]


class TeacherProcess:
    """Answers questions until its parent is gone."""

    def __init__(self, config: ProcessConfig, session: TeacherSession) -> None:
        """Args: settings; the teacher, calibrated."""
        self._config, self._session = config, session
        self._queue = QuestionQueue()
        self._labels = config.task.label_names
        self._loop = asyncio.new_event_loop()
        self._busy_since: dict[int, float] = {}  # by the number of the thread that asks the teacher
        self._takes_s = 0.0  # seconds of a call of the teacher, smoothed
        self._told_s = -QUIET_S  # moment of the last line about a failure

    def run(self) -> None:
        """Listen, answer and give signs of life, for ever."""
        local = not self._config.teacher.is_address
        n_threads, at_once = (1, AT_ONCE) if local else (self._config.concurrency, 1)
        for number in range(n_threads):
            threading.Thread(target=self._answer, args=(number, at_once), name=f"teacher-{number}", daemon=True).start()
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        """Accept connections, which only this user can make, as the socket's folder is private."""
        Path(self._config.socket).unlink(missing_ok=True)  # of a process that was here before
        await asyncio.start_unix_server(self._connected, self._config.socket, limit=wire.MAX_FRAME_BYTES)
        report(self._config.status, READY)
        while True:
            oldest = min(list(self._busy_since.values()), default=time.monotonic())  # a copy: threads write to it
            if time.monotonic() - oldest < STUCK_S:
                report(self._config.status, ALIVE)
            await asyncio.sleep(BEAT_S)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Greet, and queue the questions of one connection until it ends."""
        task = self._config.task
        writer.write(
            wire.encode(Greeting(format=wire.FORMAT, teacher=self._session.name, labels=self._labels, target=task.input.target))
        )
        try:
            while True:
                n_bytes = wire.length(await reader.readexactly(wire.HEAD.size))
                question = wire.decode(await reader.readexactly(n_bytes), TeacherQuestion)
                if not self._queue.put(QueuedQuestion(question, writer)):
                    writer.write(wire.encode(TeacherReply(id=question.id, problem="busy")))
        except (NonsenseError, OSError, EOFError):
            writer.close()

    def _answer(self, number: int, at_once: int) -> None:
        """The loop of a thread that asks the teacher."""
        while True:
            taken = self._queue.take(at_once)
            now = time.monotonic()
            timely = [waiting for waiting in taken if waiting.question.until_s > now + self._takes_s]
            for waiting in taken:
                if waiting not in timely:  # work for nothing would make the next ones late, too
                    self._reply(waiting, None, "late")
            if not timely:
                self._takes_s *= FORGET  # a guess that was too high would refuse everything for ever
                continue
            self._busy_since[number] = now
            self._ask(timely)
            del self._busy_since[number]
            self._takes_s += SMOOTHING * (time.monotonic() - now - self._takes_s)

    def _ask(self, taken: list[QueuedQuestion]) -> None:
        """Ask the teacher about some questions, and send each reply as soon as it is there."""
        left = dict(enumerate(taken))
        texts = [Text(one.question.text, target=one.question.target) for one in taken]
        try:
            for index, probs in self._session.answers(texts):
                waiting = left.pop(index)
                if probs is not None and not np.isfinite(probs).all():  # a server may give every label a probability of 0
                    self._reply(waiting, None, "failed")
                else:
                    self._reply(waiting, None if probs is None else probs.tolist(), "too long")
        except UserError:
            now = time.monotonic()
            if now - self._told_s >= QUIET_S:  # what the error says might quote the text
                self._told_s = now
                _tell(ServerLog(), "a question could not be answered; failures of the next minute are not told")
            if not self._config.teacher.is_address:
                os._exit(1)  # what is left of a model that failed is not to be trusted; a new process takes over
        for waiting in left.values():
            self._reply(waiting, None, "failed")

    def _reply(self, waiting: QueuedQuestion, probs: list[float] | None, problem: Problem) -> None:
        """Send a reply. Args: probs, in the task's order; None: the problem is sent instead."""
        by_label = None if probs is None else dict(zip(self._labels, probs, strict=True))
        reply = TeacherReply(id=waiting.question.id, probs=by_label, problem="" if probs is not None else problem)
        self._loop.call_soon_threadsafe(_write, waiting.writer, wire.encode(reply))


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write to a connection, unless it has ended."""
    if not writer.is_closing():
        writer.write(data)


def report(status: int, what: bytes) -> None:
    """Tell the parent; if it is gone, end this process at once. Args: descriptor; one of the bytes that `config` lists."""
    try:
        os.write(status, what)
    except OSError:
        os._exit(1)


def end_with_parent(socket: Path) -> None:
    """End this process at once when stdin ends, as it does with its parent; for a thread of its own.

    Args:
        socket: removed with what else is in its folder, as a parent that was killed has not done it.
    """
    while os.read(0, 4096):
        pass
    try:
        for path in (socket, socket.with_name(CORRECTION_FILE)):
            path.unlink(missing_ok=True)
        socket.parent.rmdir()
    except OSError:
        pass
    os._exit(0)


def end_with_thread(failure: threading.ExceptHookArgs) -> None:
    """End this process, with the traceback, when a thread of it has failed: without it nobody would answer."""
    sys.excepthook(failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback)
    os._exit(1)


def come_last() -> None:
    """Let everybody else on the machine have cores and memory first."""
    os.nice(NICENESS)
    try:
        SCORE_FILE.write_text(str(OOM_SCORE))
    except OSError:
        pass  # not Linux, or a container that does not allow it


def calibrate(session: TeacherSession, config: ProcessConfig) -> None:
    """Calibrate the teacher, or take what an earlier process of the same server has found; raises as `TeacherSession.calibrate`."""
    kept = Path(config.socket).with_name(CORRECTION_FILE)
    try:
        session.correct_with(msgspec.json.decode(kept.read_bytes(), type=list[list[float]]))
    except (OSError, msgspec.MsgspecError, ValueError):
        session.calibrate(config.pool, config.prior)
        atomic.write_file(kept, msgspec.json.encode(session.correction))


def main() -> int:
    """Answer until the parent is gone; returns the exit code if the teacher cannot be opened."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    come_last()
    config = msgspec.json.decode(sys.stdin.buffer.raw.readline(), type=ProcessConfig)  # type: ignore[union-attr]  # it is a BufferedReader
    threading.excepthook = end_with_thread
    threading.Thread(target=end_with_parent, args=[Path(config.socket)], name="parent", daemon=True).start()
    tell = partial(_tell, ServerLog())
    try:
        session = TeacherSession.open(config.teacher, config.task, config.concurrency, tell)
        report(config.status, OPENED)
        calibrate(session, config)
    except UserError as error:
        tell(str(error))
        return 1
    TeacherProcess(config, session).run()
    return 0


def _tell(log: ServerLog, message: str) -> None:
    """Write a line about the teacher to the log."""
    log.line(f"potstill: teacher: {message}")


if __name__ == "__main__":
    sys.exit(main())
