"""The interface of every teacher, in this process or behind a server: requests for paths go in, paths come out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Mode = Literal["direct", "cot"]
ServerApi = Literal["completions", "chat", "ollama", "decisions", "systemone"]  # how a server is asked
APIS: tuple[str, ...] = ("auto", *get_args(ServerApi))
DECIDING: frozenset[str] = frozenset({"decisions", "systemone"})  # answer a question with probabilities, and write nothing
NOT_ASKED = -math.inf  # stands for the log-probability of a label word that was not among the candidates of its text
Enough = Callable[[str], bool]  # whether the text with that id is decided, so that no further path of it is started


@dataclass(frozen=True)
class PathRequest:
    """The paths wanted for one text, and its part of the prompt."""

    text_id: str
    prompt: str  # what follows the shared prefix, up to the cue that the teacher continues
    paths: tuple[int, ...]  # numbers of the wanted paths in drawing order; each has its own seed
    n_first: int = 0  # paths that are always drawn; the others one by one while the text is undecided. 0: all of them
    words: tuple[int, ...] = ()  # label words that are asked, by their index in the answer spec; empty: all

    @property
    def n_at_once(self) -> int:
        """Largest number of paths that are drawn at the same time."""
        return min(self.n_first or len(self.paths), len(self.paths))


@dataclass(frozen=True)
class TeacherPath:
    """One answer of the teacher to one text."""

    text_id: str
    path: int
    variant: int  # number of the prompt variant
    seed: int
    rationale: str  # empty in mode `direct`
    word_logprobs: tuple[float, ...]  # log-probability (nats) of each label word, in the task's word order; or NOT_ASKED
    n_prompt_tokens: int  # after the shared prefix
    n_generated: int
    question: str = ""  # its key, where several questions were asked together


@dataclass(frozen=True)
class TooLong:
    """A text that does not fit in the teacher's context, so it got no path."""

    text_id: str
    n_tokens: int  # of the text, after the shared prefix
    n_free: int  # tokens that the context has left after the prefix and the answer
    question: str = ""  # its key, where several questions were asked together


def path_seed(run_seed: int, text_id: str, path: int) -> int:
    """Seed of one path's sampler, from 0 to 2^32 - 1; it depends on these three values only."""
    key = f"{run_seed}\0{text_id}\0{path}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(key).digest()[:4], "little")


@dataclass(frozen=True)
class Thought:
    """The channel in which a model thinks before its final answer. Both texts may hold control tokens."""

    stop: str  # the mark that ends a thought when the model writes it itself, e.g. "</think>"
    closing: str  # what stands between the end of a thought and the first letter of the final answer, e.g. "\n</think>\n\n"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation with a server that writes it in the model's own template."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class PutQuestion:
    """A question for a server that decides instead of writing."""

    instructions: str
    options: tuple[tuple[str, str], ...]  # (label word, meaning), in the order in which they are asked


@dataclass(frozen=True)
class AnswerSpec:
    """How answers to one prompt variant are sampled, and where in them the label is read."""

    mode: Mode
    words: tuple[str, ...]  # every label's words, in the task's order
    rationale_cue: str  # ends the prompt in mode `cot`: "Opinion:"
    answer_cue: str  # precedes the label: "Answer:"
    temperature: float  # of the sampled rationale; above 0
    max_rationale_tokens: int
    chat: bool = False  # whether the prompt is a conversation, so that its prefix and tail hold control tokens
    tail: str = ""  # of a conversation: what follows every text, up to the cue
    thought: Thought | None = None  # mode `cot`, chat: rationales are thoughts; the tail ends where one begins
    messages: tuple[Message, ...] = ()  # for a chat server: the turns before the text's; the prefix is then only a picture of them
    question: PutQuestion | None = None  # for a decision server: what is asked; the prefix is then only a picture of it


@dataclass(frozen=True)
class QuestionRequests:
    """The paths wanted for one of several questions that are asked together: they share the prefix, and the tokens of each text."""

    question: str  # its key; copied into the paths
    spec: AnswerSpec
    requests: Sequence[PathRequest]  # each prompt: the text, then what is asked about it


@dataclass(frozen=True)
class Identity:
    """Which model answers, in which build: all that decides an answer apart from prompt and sampling."""

    name: str
    digest: str  # SHA-256 of the file that runs
    source_digest: str  # of the file it was re-packed from; otherwise equal to `digest`
    build: str  # the software that runs it
    chat_template: str = ""  # Jinja template for conversations; empty: the model has none
    bos: str = ""  # how the vocabulary spells the token that opens a prompt; empty: unknown
    eos: str = ""  # and the one that ends a turn
    adds_bos: bool = False  # whether the tokenizer itself puts the opening token first
    gpu_layers: int = 0  # layers that are computed on a GPU of this machine
    kv_type: str = "f16"  # of the cached keys and values; a server's is its own affair
    api: ServerApi | Literal[""] = ""  # how a server is asked; empty: the model runs in this process


def never(_text_id: str) -> bool:
    """The `enough` of a run without early stopping: every path is drawn."""
    return False


class Teacher(Protocol):
    """Draws paths. Open it, ask any number of times, close it."""

    @property
    def identity(self) -> Identity:
        """Model and build that answer."""
        ...

    def answer(
        self, prefix: str, variant: int, requests: Sequence[PathRequest], spec: AnswerSpec, run_seed: int, enough: Enough = never
    ) -> Iterator[TeacherPath | TooLong]:
        """Draw every requested path; each is yielded as soon as it is complete, in any order.

        Args:
            prefix: the part of the prompt that all requests share: guideline and worked examples.
            variant: number of that prefix; copied into the paths.
            enough: called before each path after a request's first ones, when the caller has seen all paths yielded so far.
        """
        ...

    def close(self) -> None:
        """Free the memory; safe to call twice."""
        ...
