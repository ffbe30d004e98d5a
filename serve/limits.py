"""How much one request may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a request may hold; more is refused before any work."""

    max_body_bytes: int = 1_000_000
    max_texts: int = 64
