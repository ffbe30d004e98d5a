"""The common workload of all benchmark parts: the same texts with the task's own prompts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.engine.llama import LlamaEngine
from potstill.labeler.engine.tokens import common_length
from potstill.labeler.prompts.variants import PromptVariant, prompt_variants
from potstill.labeler.teacher import Identity, Mode, PathRequest

LABEL_TOKENS = 8  # most tokens that a peer generates after the longest rationale: the answer cue and the label
STOP = "\n\n"  # ends a peer's answer: in the prompt, a blank line follows every label


@dataclass(frozen=True)
class Workload:
    """Texts, and how they are labelled."""

    task: Task
    texts: list[Text]
    n_paths: int
    identity: Identity  # of the teacher

    def config(self, mode: Mode) -> LabelConfig:
        """The settings of a run: one prompt variant in `cot`, one per path in `direct`."""
        return LabelConfig(mode=mode, n_paths=self.n_paths)

    def prompt_variants(self, mode: Mode) -> list[PromptVariant]:
        """The prompt variants of a run."""
        return prompt_variants(self.task, self.config(mode), self.identity)

    def requests(self, variant: PromptVariant) -> list[PathRequest]:
        """One request per text, for the paths that this variant draws."""
        return [PathRequest(text.id, variant.prompt(text), variant.paths) for text in self.texts]

    @cached_property
    def prompts(self) -> list[str]:
        """Complete `cot` prompts for peers, which generate rationale and label in one go."""
        (variant,) = self.prompt_variants("cot")
        return [variant.prefix + variant.prompt(text) for text in self.texts]

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return LabelConfig.seed

    @property
    def temperature(self) -> float:
        """Temperature of the sampled rationales."""
        return LabelConfig.temperature

    @property
    def max_new_tokens(self) -> int:
        """Largest number of tokens that a peer generates for one path."""
        return LabelConfig.max_rationale_tokens + LABEL_TOKENS


@dataclass(frozen=True)
class TokenCounts:
    """The workload in tokens of the teacher's vocabulary."""

    longest_prompt: int  # tokens, including the prefix
    cot: list[int]  # number of tokens of each text, after the shared prefix
    direct: list[int]  # token ids of all texts in a row, with the first variant of `direct`, without its prefix


def count_tokens(load: Workload, model: Path) -> TokenCounts:
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

    longest: int  # tokens of the longest prompt, including the prefix
    texts: list[list[int]]  # without the prefix


def _tokens(engine: LlamaEngine, load: Workload, mode: Mode) -> _Tokens:
    """Tokens of the texts with the first prompt variant, from where the first of them differs from the prefix alone."""
    variant = load.prompt_variants(mode)[0]
    shared = engine.tokenize(variant.prefix, start=True)
    whole = [engine.tokenize(variant.prefix + variant.prompt(text), start=True) for text in load.texts]
    n_shared = min(common_length(shared, prompt) for prompt in whole)
    return _Tokens(max(map(len, whole)), [prompt[n_shared:] for prompt in whole])
