"""What is asked of a teacher and what comes back: asks and paths."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

DRAWN_FOR_READ = 2  # tokens that are read in the time that one is drawn, about, by a small teacher on two cores


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


def token_cost(paths: Iterable[TeacherPath]) -> int:
    """What the paths cost: tokens read after the shared prefixes, and drawn ones for two of those each.

    A prompt is read once, however many paths fork it. Unlike seconds it is the same every time.
    """
    prompts, n_drawn = dict[tuple[str, int], int](), 0
    for path in paths:
        prompts[path.text_id, path.variant] = path.n_prompt_tokens
        n_drawn += path.n_generated
    return sum(prompts.values()) + DRAWN_FOR_READ * n_drawn
