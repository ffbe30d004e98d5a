"""A connection to the teacher behind the server: questions go out, and each is answered once, whatever the teacher does.

The teacher is a process of its own that may be slow, stopped, dead or wrong. Nothing here waits for it: a question gets a future
that is done when the reply comes or the connection ends, and the caller decides how long to wait. A question that nobody waits for
any more keeps its place until the teacher has dealt with it, so one that stands still is soon asked nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from potstill.contract.fallback import wire
from potstill.contract.fallback.wire import NonsenseError, TeacherQuestion, TeacherReply

RETRY_S = (0.1, 2.0)  # before the next try to connect: first, then doubled up to this
GREETING_S = 5.0  # from connecting to the greeting
FRAME_S = 5.0  # for a frame to arrive whole, from its first byte
QUIET_S = 60.0  # between two lines about nonsense
LOST_S = 30.0  # after its time: a question without a reply shows that the connection is of no use

Failure = Literal["dead", "nonsense"]  # why a connection has ended


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on its way."""

    future: asyncio.Future[TeacherReply | Failure]
    until_s: float  # moment after which nobody waits, by `time.monotonic`


class TeacherConnection:
    """One connection, opened again when it ends. Everything runs in the event loop's thread."""

    def __init__(self, path: str, labels: list[str], tell: Callable[[str], None]) -> None:
        """Open nothing yet.

        Args:
            path: of the teacher's Unix socket.
            labels: that its replies must be about.
            tell: called with a line for the log when the connection ends in an unusual way.
        """
        self._path, self._labels, self._tell = path, frozenset(labels), tell
        self._writer: asyncio.StreamWriter | None = None  # while the teacher can be asked
        self._asked: dict[int, Asked] = {}  # by the questions' ids
        self._next_id = 0
        self._n_failures = 0  # since the last reply
        self._told_s = -math.inf  # moment of the last line about nonsense, by the loop's clock
        self.teacher = ""  # name of the model that answers, or answered last
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the teacher can be asked now."""
        return self._writer is not None

    @property
    def n_asked(self) -> int:
        """Questions that the teacher has not dealt with."""
        return len(self._asked)

    def start(self) -> None:
        """Connect, now and after every end; call it in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._keep_open())

    async def close(self) -> None:
        """End the connection; questions on their way get `dead`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._end("dead")

    def ask(
        self, text: str, target: str | None, until_s: float, *, background: bool = False
    ) -> asyncio.Future[TeacherReply | Failure]:
        """Send a question; the connection must be open. The future is never cancelled and never raises.

        Args:
            text, target: what the teacher reads.
            until_s: moment after which nobody waits for the reply, by `time.monotonic`.
            background: the question may wait for all others.
        """
        if self._writer is None:
            raise ValueError("the connection is closed; ask only while it is open")
        future: asyncio.Future[TeacherReply | Failure] = asyncio.get_running_loop().create_future()
        self._next_id += 1
        question = TeacherQuestion(id=self._next_id, text=text, target=target, until_s=until_s, background=background)
        self._asked[question.id] = Asked(future, until_s)
        self._writer.write(wire.encode(question))
        return future

    def drop_if_lost(self, now: float) -> None:
        """End the connection if a question should have been dealt with long ago. Args: now, by `time.monotonic`."""
        if self._asked and now > min(asked.until_s for asked in self._asked.values()) + LOST_S:
            self._tell(f"the teacher has not dealt with a question for {LOST_S:g} s after its time; connecting anew")
            self._end("dead")

    async def _keep_open(self) -> None:
        """Connect and read replies, again and again."""
        while True:
            failure: Failure = "dead"
            try:
                await self._read_replies()
            except NonsenseError as error:
                failure = "nonsense"
                self._tell_of_nonsense(error)
            except (OSError, EOFError, TimeoutError):  # it is not there, or has ended, or sends no greeting
                pass
            self._end(failure)
            first_s, longest_s = RETRY_S
            await asyncio.sleep(min(longest_s, first_s * 2.0**self._n_failures))
            self._n_failures = min(self._n_failures + 1, 16)

    def _tell_of_nonsense(self, error: NonsenseError) -> None:
        """Log what kind of nonsense came, without what might quote a text, and not every time."""
        now = asyncio.get_running_loop().time()
        if now - self._told_s >= QUIET_S:
            self._told_s = now
            self._tell(f"the teacher sent nonsense ({str(error).partition(':')[0]}); connecting anew, for a minute without a line")

    async def _read_replies(self) -> None:
        """Connect, and read replies until the connection ends; raises NonsenseError, OSError, EOFError or TimeoutError."""
        reader, writer = await asyncio.open_unix_connection(self._path, limit=wire.MAX_FRAME_BYTES)
        try:
            async with asyncio.timeout(GREETING_S):
                greeting = wire.read_greeting(await _frame(reader))
            if frozenset(greeting.labels) != self._labels:
                raise NonsenseError("a greeting with other labels")
            self._writer, self.teacher = writer, greeting.teacher
            while True:
                self._take(wire.read_reply(await _frame(reader), self._labels))
        finally:
            writer.close()

    def _take(self, reply: TeacherReply) -> None:
        """Give a reply to whoever asked; raises NonsenseError if nobody did."""
        asked = self._asked.pop(reply.id, None)
        if asked is None:
            raise NonsenseError("a reply to no question")
        self._n_failures = 0
        if not asked.future.done():
            asked.future.set_result(reply)

    def _end(self, failure: Failure) -> None:
        """Close the connection, and answer every question on its way with the reason."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for asked in self._asked.values():
            if not asked.future.done():
                asked.future.set_result(failure)
        self._asked.clear()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """The next frame; raises NonsenseError if it is too long or does not arrive whole in time, EOFError at the end."""
    first = await reader.readexactly(1)
    try:
        async with asyncio.timeout(FRAME_S):
            head = first + await reader.readexactly(wire.HEAD.size - 1)
            return await reader.readexactly(wire.length(head))
    except TimeoutError as error:
        raise NonsenseError(f"a frame that is not whole after {FRAME_S:g} s") from error
