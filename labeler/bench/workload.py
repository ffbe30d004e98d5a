"""The work that the benchmark gives to all: the same texts, asked with the task's own prompt, whoever answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.engine.llama_engine import LlamaEngine
from potstill.labeler.prompts.variants import PromptVariant, questions
from potstill.labeler.teacher import Identity, Mode, PathRequest

LABEL_TOKENS = 8  # that a peer may write after the longest rationale: the answer cue and the label
STOP = "\n\n"  # ends an answer of a peer: in the prompt, a blank line follows every label


@dataclass(frozen=True)
class Workload:
    """Texts and how they are asked."""

    task: Task
    texts: list[Text]
    n_paths: int
    identity: Identity  # of the teacher

    def config(self, mode: Mode) -> LabelConfig:
        """A run's settings: one prompt variant in `cot`, one per path in `direct`."""
        return LabelConfig(mode=mode, n_paths=self.n_paths)

    def questions(self, mode: Mode) -> list[PromptVariant]:
        """A run's prompt variants."""
        return questions(self.task, self.config(mode), self.identity)

    def requests(self, question: PromptVariant) -> list[PathRequest]:
        """Every text with the paths that this variant draws."""
        return [PathRequest(text.id, question.prompt(text), question.paths) for text in self.texts]

    @cached_property
    def prompts(self) -> list[str]:
        """Whole `cot` prompts, as a peer gets them: it writes rationale and label in one go."""
        (question,) = self.questions("cot")
        return [question.prefix + question.prompt(text) for text in self.texts]

    @property
    def seed(self) -> int:
        """Of the run."""
        return LabelConfig.seed

    @property
    def temperature(self) -> float:
        """Of the sampled rationales."""
        return LabelConfig.temperature

    @property
    def max_new_tokens(self) -> int:
        """Most tokens that a peer writes for one path."""
        return LabelConfig.max_rationale_tokens + LABEL_TOKENS


@dataclass(frozen=True)
class TokenCounts:
    """The workload in tokens of the teacher's vocabulary."""

    longest_prompt: int  # prefix included
    cot: list[int]  # tokens of each text, after those of the shared prefix
    direct: list[int]  # token ids of all texts after each other, as the first variant of `direct` asks them, without its prefix


def counted(load: Workload, model: Path) -> TokenCounts:
    """Tokenize the workload; raises UserError if the model cannot be loaded."""
    engine = LlamaEngine(model)
    try:
        cot, direct = _tokens(engine, load, "cot"), _tokens(engine, load, "direct")
    finally:
        engine.close()
    return TokenCounts(cot.longest, [len(text) for text in cot.texts], [token for text in direct.texts for token in text])


@dataclass(frozen=True)
class _Tokens:
    """One mode's texts in tokens."""

    longest: int  # prompt, prefix included
    texts: list[list[int]]  # without the prefix


def _tokens(engine: LlamaEngine, load: Workload, mode: Mode) -> _Tokens:
    """Tokens of the texts under the first prompt variant, from the first one that the prefix alone would not have."""
    question = load.questions(mode)[0]
    shared = engine.tokenize(question.prefix, start=True)
    whole = [engine.tokenize(question.prefix + question.prompt(text), start=True) for text in load.texts]
    n_shared = min(
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(shared, prompt, strict=False))) for prompt in whole
    )
    return _Tokens(max(map(len, whole)), [prompt[n_shared:] for prompt in whole])
