"""A caller's place in a trace, as the header `traceparent` says it, and where spans go if somebody wants them.

Source: W3C Trace Context, section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

_PARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ZEROS = b"0"


@dataclass(frozen=True, slots=True)
class Parent:
    """The span that called."""

    trace_id: int  # 128 bits, not 0
    span_id: int  # 64 bits, not 0
    sampled: bool


@dataclass(frozen=True, slots=True)
class Span:
    """One request, as it is told to a tracer. It holds no text."""

    name: str  # method and route
    parent: Parent | None
    start_ns: int  # since 1970
    end_ns: int
    attributes: Mapping[str, str | int | float]
    is_error: bool  # the server's fault


class Tracer(Protocol):
    """Whoever takes spans."""

    def take(self, span: Span) -> None:
        """Take a span, without letting the caller wait."""

    def close(self) -> None:
        """Send what was taken."""


def parse_parent(value: bytes | None) -> Parent | None:
    """The caller's span; None if there is none, or the header is malformed, which the standard says to pass over."""
    match = None if value is None else _PARENT.fullmatch(value.strip())
    if match is None or (match[1] == b"00" and match[5]) or not match[2].strip(_ZEROS) or not match[3].strip(_ZEROS):
        return None
    return Parent(int(match[2], 16), int(match[3], 16), bool(int(match[4], 16) & 1))
