"""Which teacher stands behind a server, how it is asked, and what its process is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.task import Task
from potstill.contract.texts import Text


@dataclass(frozen=True)
class FallbackConfig:
    """The teacher behind a server.

    Raises:
        UserError: naming the first value that is out of range.
    """

    name: str  # of the catalog, or a GGUF file, or the address of an OpenAI-compatible server
    model: str | None = None  # id of a server's model; None: its only one
    api: str = "auto"  # how a server is asked
    paths: int = 1  # prompts with different worked examples that are averaged for each text, at least 1
    threads: int | None = None  # CPU threads of a model on this machine; None: all usable cores
    memory_mb: int | None = None  # megabytes that its process may hold beside mapped files, at least 1; None: no limit
    pool: str | None = None  # file of texts like those to come, on which it is calibrated; None: the bundle's golden texts

    def __post_init__(self) -> None:
        """Refuse what asks nothing."""
        for name, value in (("paths", self.paths), ("threads", self.threads), ("megabytes of memory", self.memory_mb)):
            if value is not None and value < 1:
                raise UserError(f"the teacher's {name} are {value}; there must be at least 1")

    @property
    def is_address(self) -> bool:
        """Whether it is a server elsewhere, which may come and go."""
        return self.name.startswith(("http://", "https://"))


class ProcessConfig(msgspec.Struct, frozen=True):
    """Settings of the teacher's process, sent as JSON on the first line of its stdin."""

    socket: str  # path of the Unix socket on which it answers
    status: int  # descriptor to which it reports
    teacher: FallbackConfig
    task: Task
    pool: list[Text]  # texts on which its preference for single labels is measured, at least one
    prior: list[float] | None  # share of each label among them, in the task's order; None: even
    concurrency: int  # questions that it is asked at once, by all connections together


# What the process reports: a byte each.
OPENED, READY, ALIVE = b"o", b"r", b"."
