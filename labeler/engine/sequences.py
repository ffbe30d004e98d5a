"""Many sequences in a context that holds one: where a model or the memory allows no more, and for `--parallel 1`.

A sequence is the list of its tokens. The one that is decoded next is brought into the context: what differs from the one that is
there is cut off. Recurrent and hybrid models cannot take back tokens; there the state is kept at each fork and put back. The
scheduler steps streams depth first, so that no token is decoded twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from potstill.labeler.engine.llama_engine import LlamaEngine, Token
from potstill.labeler.engine.variant_context import PREFIX

_ONLY = 0  # the context's own sequence
_N_NUMBERS = 4096  # of sequences; they cost nothing here


@dataclass
class _Branch:
    """What a sequence holds, and the last state of it that was kept."""

    tokens: list[int]
    state: bytes = b""
    n_kept: int = 0  # tokens that the state stands for


class TimeSharedSequences:
    """Sequences that take turns in an engine's context of one sequence."""

    one_at_a_time = True
    n_sequences = _N_NUMBERS

    def __init__(self, engine: LlamaEngine, prefix: list[int]) -> None:
        """Args: engine, whose context holds the prefix and nothing else."""
        self._engine = engine
        self._branches = {PREFIX: _Branch(list(prefix))}
        self._here = list(prefix)  # tokens in the context

    def decode(self, tokens: Sequence[Token]) -> list[int]:
        """Decode tokens of one sequence; see :meth:`potstill.labeler.engine.llama_engine.LlamaEngine.decode`."""
        (sequence,) = {token.sequence for token in tokens}
        self._bring(sequence)
        rows = self._engine.decode([replace(token, sequence=_ONLY) for token in tokens])
        new = [token.token for token in tokens]
        self._branches[sequence].tokens += new
        self._here += new
        return rows

    def fork(self, source: int, target: int) -> None:
        """Let sequence ``target`` continue from all of ``source``."""
        branch = self._branches[source]
        if not self._engine.can_cut and branch.n_kept < len(branch.tokens):
            self._bring(source)
            branch.state, branch.n_kept = self._engine.state(_ONLY), len(branch.tokens)
        self._branches[target] = replace(branch, tokens=list(branch.tokens))

    def free(self, sequence: int) -> None:
        """Forget a sequence; its tokens leave the context when another one comes."""
        self._branches.pop(sequence, None)

    def _bring(self, sequence: int) -> None:
        """Make the context hold exactly this sequence's tokens."""
        branch, n_batch = self._branches[sequence], self._engine.config.n_batch
        n_alike = _n_alike(self._here, branch.tokens)
        if n_alike < len(self._here):
            self._here = branch.tokens[: self._go_back(branch, n_alike)]
        while len(self._here) < len(branch.tokens):
            first = len(self._here)
            chunk = branch.tokens[first : first + n_batch]
            self._engine.decode([Token(token, first + i, _ONLY) for i, token in enumerate(chunk)])
            self._here += chunk

    def _go_back(self, branch: _Branch, n_alike: int) -> int:
        """Let the context hold a beginning of the branch, at best so many tokens; returns how many they are."""
        if self._engine.can_cut:
            self._engine.cut(_ONLY, n_alike)
            return n_alike
        self._engine.free(_ONLY)
        return branch.n_kept if branch.n_kept and self._engine.restore(branch.state, _ONLY) else 0


def _n_alike(first: list[int], second: list[int]) -> int:
    """How many tokens both begin with."""
    differing = (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differing, min(len(first), len(second)))
