"""Sequences that tokens are decoded into: many in one context, or many that take turns in a context of one.

The engine holds many sequences at once. Where a model or the memory allows only one, and for `--parallel 1`, they take turns: each
is kept as a list of tokens, and the one to decode next is brought into the context by cutting off what differs from the one that is
there. Recurrent and hybrid models cannot cut; there the state is saved at each fork and restored. The scheduler steps streams depth
first, so no token is decoded twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from potstill.labeler.engine.llama import LlamaEngine, Token
from potstill.labeler.engine.tokens import common_length

PREFIX = 0  # sequence of the shared prefix
_ONLY = 0  # the sequence of a context that holds one
_N_TAKING_TURNS = 4096  # sequences that take turns; a further one costs nothing


class Sequences(Protocol):
    """Decodes tokens into sequences: the engine itself, or :class:`TimeSharedSequences`."""

    one_at_a_time: bool  # whether a decode takes tokens of one sequence only, and no other sequence occupies cells meanwhile

    @property
    def n_sequences(self) -> int:
        """Largest number of sequences, the prefix's own included."""
        ...

    def decode(self, tokens: Sequence[Token]) -> list[int]:
        """See :meth:`potstill.labeler.engine.llama.LlamaEngine.decode`."""
        ...

    def fork(self, source: int, target: int) -> None:
        """Make the new sequence ``target`` a copy of ``source``."""
        ...

    def free(self, sequence: int) -> None:
        """Remove a sequence."""
        ...


@dataclass
class _Branch:
    """A sequence's tokens, and the last saved state of it."""

    tokens: list[int]
    state: bytes = b""
    n_saved: int = 0  # tokens that the state covers


class TimeSharedSequences:
    """Sequences that take turns in an engine's context of one sequence."""

    one_at_a_time = True
    n_sequences = _N_TAKING_TURNS

    def __init__(self, engine: LlamaEngine, prefix: list[int]) -> None:
        """Args: engine, whose context holds the prefix and nothing else."""
        self._engine = engine
        self._branches = {PREFIX: _Branch(list(prefix))}
        self._here = list(prefix)  # tokens in the context

    def decode(self, tokens: Sequence[Token]) -> list[int]:
        """Decode tokens of one sequence; see :meth:`potstill.labeler.engine.llama.LlamaEngine.decode`."""
        (sequence,) = {token.sequence for token in tokens}
        self._bring(sequence)
        rows = self._engine.decode([replace(token, sequence=_ONLY) for token in tokens])
        new = [token.token for token in tokens]
        self._branches[sequence].tokens += new
        self._here += new
        return rows

    def fork(self, source: int, target: int) -> None:
        """Make sequence ``target`` a copy of ``source``."""
        branch = self._branches[source]
        if not self._engine.can_cut and branch.n_saved < len(branch.tokens):
            self._bring(source)
            branch.state, branch.n_saved = self._engine.state(_ONLY), len(branch.tokens)
        self._branches[target] = replace(branch, tokens=list(branch.tokens))

    def free(self, sequence: int) -> None:
        """Remove a sequence; its tokens stay in the context until another sequence needs it."""
        self._branches.pop(sequence, None)

    def _bring(self, sequence: int) -> None:
        """Make the context hold exactly this sequence's tokens."""
        branch, n_batch = self._branches[sequence], self._engine.config.n_batch
        n_common = common_length(self._here, branch.tokens)
        if n_common < len(self._here):
            self._here = branch.tokens[: self._go_back(branch, n_common)]
        while len(self._here) < len(branch.tokens):
            first = len(self._here)
            chunk = branch.tokens[first : first + n_batch]
            self._engine.decode([Token(token, first + i, _ONLY) for i, token in enumerate(chunk)])
            self._here += chunk

    def _go_back(self, branch: _Branch, n_common: int) -> int:
        """Go back to a beginning of the branch, of n_common tokens where possible; returns the number of tokens kept."""
        if self._engine.can_cut:
            self._engine.cut(_ONLY, n_common)
            return n_common
        self._engine.free(_ONLY)
        return branch.n_saved if branch.n_saved and self._engine.restore(branch.state, _ONLY) else 0
