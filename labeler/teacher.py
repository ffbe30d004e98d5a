"""What every teacher can do, whether it runs in this process or behind a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from potstill.labeler.paths import Ask, TeacherPath, TooLong

Mode = Literal["direct", "cot"]
Enough = Callable[[str], bool]  # whether the text of that id is decided, so that no further path of it is begun


@dataclass(frozen=True)
class Reading:
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
        self, prefix: str, variant: int, asks: Sequence[Ask], reading: Reading, run_seed: int, enough: Enough = never
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
