"""What is served, where, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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


@dataclass(frozen=True)
class BundleSpec:
    """A bundle that is to be served."""

    folder: Path
    name: str | None = None  # None: what the bundle calls itself


def parse_bundle_spec(argument: str) -> BundleSpec:
    """A bundle as it is given on the command line, `BUNDLE` or `NAME=BUNDLE`; a folder that has this very name goes first."""
    name, equals, folder = argument.partition("=")
    if equals and "/" not in name and not Path(argument).exists():
        return BundleSpec(Path(folder), name)
    return BundleSpec(Path(argument))


@dataclass(frozen=True)
class ServeConfig:
    """Where and how to listen."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free one
    unix: Path | None = None  # listen at this path instead
    processes: int = 1  # on the one port
    workers: int | None = None  # texts answered at once by each process; None: the usable cores, shared out
    insecure: bool = False  # whether other machines may be let in, without a key and without encryption
    keys: Path | None = None  # a file of keys; None: those of the environment, if any
    otlp: str | None = None  # a collector's address for traces; None: nowhere
    limits: Limits = field(default_factory=Limits)
