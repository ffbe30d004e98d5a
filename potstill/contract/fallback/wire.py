"""What a server and the teacher behind it say to each other over a Unix socket (format 1).

The teacher greets each connection once; then questions come in and replies go out, in any order. Each of them is a frame: its
length as four bytes, the most significant first, then so many bytes of JSON. A reader trusts nothing: whatever is not exactly such
a frame, or not a distribution over the labels, is nonsense, and ends the connection. Both sides are on one machine, so moments are
those of the clock `time.monotonic`.
"""

from __future__ import annotations

import struct
from typing import Literal, TypeVar

import msgspec

from potstill.contract.files.decode import Strict, encodable
from potstill.contract.questions.decision import SUM_TOLERANCE

FORMAT = 1
HEAD = struct.Struct(">I")
MAX_FRAME_BYTES = 1 << 20  # a question has MAX_CHARS characters at most, and a reply a number for each label
MAX_CHARS = 20_000  # of a text in a question; a task shows its teacher fewer

Problem = Literal["", "late", "busy", "too long", "failed"]
_Frame = TypeVar("_Frame", bound="Greeting | TeacherQuestion | TeacherReply")


class NonsenseError(Exception):
    """The other side sent something that is not what this format allows."""


class Greeting(Strict):
    """Who answers on this connection, and about what."""

    format: int
    teacher: str  # name of the model
    labels: list[str]  # of its task, in the task's order
    target: bool  # whether its task asks about a target


class TeacherQuestion(Strict):
    """One text for the teacher."""

    id: int  # rises with every question on a connection
    text: str
    until_s: float  # moment after which nobody waits for the reply
    target: str | None = None
    background: bool = False  # answered only while no other question waits


class TeacherReply(Strict):
    """The teacher's answer to a question, or why there is none."""

    id: int
    probs: dict[str, float] | None = None  # by label, summing to 1; None: see `problem`
    problem: Problem = ""


def encode(frame: Greeting | TeacherQuestion | TeacherReply) -> bytes:
    """A frame with its length in front; lone surrogates in a text become question marks."""
    if isinstance(frame, TeacherQuestion):
        target = None if frame.target is None else encodable(frame.target)
        frame = msgspec.structs.replace(frame, text=encodable(frame.text[:MAX_CHARS]), target=target)
    data = msgspec.json.encode(frame)
    return HEAD.pack(len(data)) + data


def length(head: bytes) -> int:
    """Number of bytes of the frame whose first four bytes these are; raises NonsenseError if it would be too long or empty."""
    (n,) = HEAD.unpack(head)
    if not 0 < n <= MAX_FRAME_BYTES:
        raise NonsenseError(f"a frame of {n} bytes; 1 to {MAX_FRAME_BYTES} are allowed")
    return int(n)


def decode(data: bytes, kind: type[_Frame]) -> _Frame:
    """A frame's content, as that kind; raises NonsenseError if it is anything else."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NonsenseError(f"no {kind.__name__}: {error}") from error


def read_greeting(data: bytes) -> Greeting:
    """The greeting in a frame; raises NonsenseError, also for another format."""
    greeting = decode(data, Greeting)
    if greeting.format != FORMAT:
        raise NonsenseError(f"a greeting of format {greeting.format}; this version reads {FORMAT}")
    return greeting


def read_reply(data: bytes, labels: frozenset[str]) -> TeacherReply:
    """The reply in a frame.

    Raises:
        NonsenseError: if it has both probabilities and a problem or neither, or its probabilities are not those of exactly these
            labels, finite, from 0 to 1 and summing to 1.
    """
    reply = decode(data, TeacherReply)
    probs = reply.probs
    if (probs is None) != (reply.problem != ""):
        raise NonsenseError("a reply with both probabilities and a problem, or with neither")
    if probs is None:
        return reply
    if probs.keys() != labels:
        raise NonsenseError("probabilities of other labels")
    if not all(0 <= value <= 1 for value in probs.values()):  # this way round, NaN is refused too
        raise NonsenseError("a probability that is not from 0 to 1")
    if abs(sum(probs.values()) - 1) > SUM_TOLERANCE:
        raise NonsenseError("probabilities that do not sum to 1")
    return reply
