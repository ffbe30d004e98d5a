"""Settings of the server: its bundles, where it listens, its processes, and the limits of requests and connections."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec


@dataclass(frozen=True)
class Limits:
    """Limits of requests and connections; what exceeds one is refused before any work."""

    max_body_bytes: int = 1_000_000
    max_texts: int = 64  # per request
    max_chars: int = 200_000  # per text
    max_head_bytes: int = 32_768  # request line and headers together
    max_connections: int = 1000  # per process
    max_held_bytes: int = 16_000_000  # per process: bodies that have not arrived whole, of all connections together
    receipt_s: float = 5.0  # for a request to arrive whole, from its first byte or from connecting
    idle_s: float = 75.0  # for a connection to stay open between two requests
    timeout_ms: float = 1000.0  # deadline of a request that sets none
    max_timeout_ms: float = 60_000.0  # longest deadline that a request may set
    min_timeout_ms: float = 0.001  # a microsecond; far above subnormal numbers, which may be flushed to 0
    lead_s: float = 0.3  # from SIGTERM to the refusal of new connections, so that load balancers can turn to other servers
    grace_s: float = 20.0  # after that, for accepted requests to finish


@dataclass(frozen=True)
class TeacherLimits:
    """How much a teacher behind the server is asked, by all its processes together."""

    wait_ms: float = 800.0  # that a hard text waits for the teacher, within the deadline of its request
    concurrency: int = 8  # questions that the teacher has not answered yet, at least 1
    per_minute: int = 600  # questions in any minute, at least 0


class AuditSettings(msgspec.Struct, frozen=True):
    """Which share of all texts is sent to the teacher as well, and where both answers are kept."""

    share: float  # above 0 and at most 1
    file: str
    max_bytes: int = 100_000_000  # size of the file from which on nothing is added


class TeacherLink(msgspec.Struct, frozen=True):
    """Where the teacher behind the server listens, and this process's part of what it may be asked."""

    socket: str  # path of its Unix socket
    labels: list[str]  # of its task: it answers for the bundles with these labels
    target: bool  # whether its task asks about a target
    wait_ms: float = TeacherLimits.wait_ms
    concurrency: int = TeacherLimits.concurrency
    per_minute: int = TeacherLimits.per_minute
    audit: AuditSettings | None = None

    def part(self, index: int, n: int) -> TeacherLink:
        """The link of one of `n` processes. Together they ask no more than one would; each may ask one question at a time."""
        concurrency = max(1, self.concurrency // n + (index < self.concurrency % n))
        per_minute = self.per_minute // n + (index < self.per_minute % n)
        return msgspec.structs.replace(self, concurrency=concurrency, per_minute=per_minute)


@dataclass(frozen=True)
class BundleSpec:
    """A bundle to serve, and the name to serve it under."""

    folder: Path
    name: str | None = None  # None: the name in its manifest
    trust: bool = False  # as `BundleFiles` has it


def parse_bundle_spec(argument: str) -> BundleSpec:
    """Parse `BUNDLE` or `NAME=BUNDLE` from the command line; an existing folder with the whole argument as its name wins."""
    name, equals, folder = argument.partition("=")
    if equals and "/" not in name and not Path(argument).exists():
        return BundleSpec(Path(folder), name)
    return BundleSpec(Path(argument))


@dataclass(frozen=True)
class ServeConfig:
    """Where to listen, and how many processes and threads answer."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0 to 65535; 0: any free port
    unix: str | Path | None = None  # listen on a Unix socket at this path instead
    processes: int = 1  # at least 1; all share the socket
    workers: int | None = None  # texts that each process answers at once; None: the usable cores divided by the processes
    insecure: bool = False  # accept other machines without a key; there is no encryption either way
    keys: str | Path | None = None  # a file of API keys; None: those in the environment, if any
    otlp: str | None = None  # URL of a collector for traces; None: no traces
    trust: bool = False  # open the bundles whatever operators and tokenizers are in them
    allow_host: tuple[str, ...] = ()  # names that requests may give the server, beside localhost, where no key is required
    allow_origin: tuple[str, ...] = ()  # of web pages that may read replies, such as https://example.org; `*`: any
    teacher: TeacherLink | None = None  # behind the server; None: there is none
    limits: Limits = field(default_factory=Limits)


class ChildConfig(msgspec.Struct, frozen=True):
    """Settings of a child process, sent as JSON on the first line of its stdin."""

    bundles: list[tuple[str, str | None]]  # (folder, name) each
    versions: list[int]  # for each, the descriptor of the memory that holds its files
    listener: int  # descriptor of the listening socket
    counts: int  # descriptor of the shared memory
    n_processes: int
    index: int
    workers: int
    keys: str | None
    otlp: str | None
    trust: bool
    hosts: list[str] | None  # as `AccessPolicy` has them
    origins: list[str]
    limits: Limits
    teacher: TeacherLink | None = None  # of the whole server
