"""Where the pages of a review are, and what one browser may ask of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from potstill.review.server.request import MAX_BODY_BYTES
from potstill.serve.http.config import Limits


@dataclass(frozen=True)
class ReviewPlace:
    """Where the pages are."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free port
    allow_host: tuple[str, ...] = ()  # names by which browsers may call the server, beside localhost
    limits: Limits = field(
        default_factory=lambda: Limits(max_body_bytes=MAX_BODY_BYTES, max_connections=64, lead_s=0.0, grace_s=5.0)
    )
