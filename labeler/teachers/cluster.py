"""A teacher that has the same one in many actors of a Ray cluster, and hands each of them blocks of texts.

Blocks come back as they are drawn and are stored by the one process that asks, so a run is resumed as any other. An actor that is
lost is replaced, and its block drawn again: what it had drawn of it has not been stored.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from potstill.contract.errors import UserError
from potstill.contract.system.cluster import ClusterConfig, mapped
from potstill.labeler.teacher import AnswerSpec, Enough, Identity, PathRequest, Teacher, TeacherPath, TooLong, never

Opener = Callable[[], Teacher]  # opens the teacher on the machine where it is called


class ClusterTeacher:
    """Asks the teachers of the actors. It needs a connected cluster while it answers."""

    blocks_at_once = 1 << 30  # all blocks of a deterministic run: an actor draws each from an empty context

    def __init__(self, here: Teacher, opener: Opener, config: ClusterConfig, block: int) -> None:
        """Args: here, the same teacher in this process, for its identity; opener; config; block, the texts of a block."""
        self._here, self._opener, self._config, self._block = here, opener, config, block

    @property
    def identity(self) -> Identity:
        """Model and build that answer; every actor's must be the same."""
        return self._here.identity

    def answer(
        self, prefix: str, variant: int, requests: Sequence[PathRequest], spec: AnswerSpec, run_seed: int, enough: Enough = never
    ) -> Iterator[TeacherPath | TooLong]:
        """Draw every requested path; see :class:`potstill.labeler.teacher.Teacher`. A text gets all of them.

        Raises:
            UserError: if an actor's teacher is another one, or as it does.
        """
        blocks = [requests[start : start + self._block] for start in range(0, len(requests), self._block)]
        rows = [{"asked": pickle.dumps((prefix, variant, list(block), spec, run_seed))} for block in blocks]
        for row in mapped(rows, TeacherActor, (self._opener, self.identity), self._config):
            results, problem = pickle.loads(row["drawn"])  # of our own actor
            if problem:
                raise UserError(problem)
            yield from results

    def close(self) -> None:
        """Free this process's teacher; the actors' end with their pool."""
        self._here.close()


class TeacherActor:
    """A teacher on some machine of the cluster."""

    def __init__(self, opener: Opener, identity: Identity) -> None:
        """Open it. Args: identity, that it must have."""
        self._problem = ""
        try:
            self._teacher = opener()
        except UserError as error:
            self._problem = str(error)
            return
        if self._teacher.identity != identity:
            found = self._teacher.identity
            self._problem = f"an actor's teacher is {found.name} ({found.digest[:12]}, {found.build}), the driver's another one"

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Draw the paths of blocks of texts."""
        return {"drawn": [pickle.dumps(self._drawn(asked)) for asked in batch["asked"]]}

    def _drawn(self, asked: bytes) -> tuple[list[TeacherPath | TooLong], str]:
        """(the paths of a block, what went wrong)."""
        if self._problem:
            return [], self._problem
        try:
            return list(self._teacher.answer(*pickle.loads(asked))), ""
        except UserError as error:
            return [], str(error)
