"""What every teacher can do, whether it runs in this process or behind a server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

DRAWN_FOR_READ = 2  # tokens that are read in the time that one is drawn, about, by a small teacher on two cores


@dataclass(frozen=True)
class PathRequest:
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


Mode = Literal["direct", "cot"]
Enough = Callable[[str], bool]  # whether the text of that id is decided, so that no further path of it is begun


@dataclass(frozen=True)
class AnswerSpec:
    """How a teacher's answer is drawn and read; one per run."""

    mode: Mode
    words: tuple[str, ...]  # every label's words, in the task's order
    rationale_cue: str  # ends the prompt in mode `cot`: "Opinion:"
    answer_cue: str  # goes before the label: "Answer:"
    temperature: float  # of the sampled rationale; above 0
    max_rationale_tokens: int
    chat: bool = False  # whether the prompt is a conversation, so that its prefix and tail hold control tokens
    tail: str = ""  # of a conversation: what follows every text, up to the cue


@dataclass(frozen=True)
class Identity:
    """What decides a teacher's answers, apart from prompt and reading."""

    name: str
    digest: str  # SHA-256 of the file that runs
    source_digest: str  # of the file it was re-packed from; the same where it was not
    build: str  # the software that runs it
    chat_template: str = ""  # Jinja template of its conversations; empty: it has none


def never(_text_id: str) -> bool:
    """No text is decided before all its paths are drawn."""
    return False


class Teacher(Protocol):
    """Draws paths. Open it, ask any number of times, close it."""

    @property
    def identity(self) -> Identity:
        """What answered."""
        ...

    def answer(
        self, prefix: str, variant: int, requests: Sequence[PathRequest], spec: AnswerSpec, run_seed: int, enough: Enough = never
    ) -> Iterator[TeacherPath | TooLong]:
        """Every wanted path of every ask, each as soon as it is complete, in any order.

        Args:
            prefix: the part of the prompt that all asks share: guideline and worked examples.
            variant: number of that prefix; copied into the paths.
            enough: asked before each path after an ask's first ones, when the caller has seen all paths handed out so far.
        """
        ...

    def close(self) -> None:
        """Give back its memory; safe to call twice."""
        ...
