"""How much one request, one connection and the whole server may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is accepted; more is refused before any work."""

    max_body_bytes: int = 1_000_000
    max_texts: int = 64  # of one request
    max_chars: int = 200_000  # of one text
    max_head_bytes: int = 32_768  # request line and headers together
    max_connections: int = 1000  # of one process
    receipt_s: float = 5.0  # from a request's first byte, or from connecting, to its last byte
    idle_s: float = 75.0  # that a connection may stay open between two requests
    timeout_ms: float = 1000.0  # in which a request wants its answer, if it does not say
    max_timeout_ms: float = 60_000.0  # that it may say
    min_timeout_ms: float = 0.001  # a microsecond; what is below the smallest normal number must not pass for 0 or above it
    lead_s: float = 0.3  # between the order to stop and the refusal of new connections, for whoever sends them to look elsewhere
    grace_s: float = 20.0  # in which accepted requests are finished after that
