"""What is asked of a teacher and what comes back: asks and paths."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Ask:
    """One text's question, as it follows the shared prefix of a prompt variant."""

    text_id: str
    prompt: str  # from the text to the cue that the teacher continues
    paths: tuple[int, ...]  # numbers of the paths that are wanted, in the order of drawing, each with its own seed
    n_first: int = 0  # of them, drawn whatever they say; the others one by one while the text is undecided. 0: all

    @property
    def n_at_once(self) -> int:
        """Paths that are drawn at the same time, at most."""
        return min(self.n_first or len(self.paths), len(self.paths))


@dataclass(frozen=True)
class TeacherPath:
    """One answer of the teacher to one text."""

    text_id: str
    path: int
    variant: int  # which order and choice of worked examples
    seed: int
    rationale: str  # empty in mode `direct`
    word_logprobs: tuple[float, ...]  # natural logarithm of the probability of each label word, in the task's word order
    n_prompt_tokens: int  # after the shared prefix
    n_generated: int


@dataclass(frozen=True)
class TooLong:
    """A text that does not fit in the teacher's context, so that it got no path."""

    text_id: str
    n_tokens: int  # its own, after the shared prefix
    n_free: int  # tokens that the context holds after the prefix and the answer


def path_seed(run_seed: int, text_id: str, path: int) -> int:
    """The sampler's seed of one path, from 0 to 2^32 - 1: it depends on nothing but these three."""
    key = f"{run_seed}\0{text_id}\0{path}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(key).digest()[:4], "little")
