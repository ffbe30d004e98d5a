"""Forecast what a labelling run will cost on this machine: prompts, tokens and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from potstill.contract.errors import UserError
from potstill.contract.questions.questionnaire import Questionnaire
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig, with_mode
from potstill.labeler.prompts.several import SharedVariant, asked_alone, asked_together, shared_variants, shares_prompt
from potstill.labeler.prompts.variants import Nearest, PromptVariant, prompt_variants
from potstill.labeler.teachers.local import LocalTeacher
from potstill.models.catalog import best_mode


@dataclass(frozen=True)
class Forecast:
    """The cost of a whole run; an upper bound where texts may need fewer paths."""

    n_texts: int
    n_variants: int
    n_paths: int
    prefix_tokens: int  # of all variants together; each prefix is decoded once
    prompt_tokens: int  # of all texts and variants, after the prefixes
    path_tokens: int  # sampled: rationales as long as those of the worked examples on average, thoughts as long as they may be
    prompt_tokens_per_s: float
    path_tokens_per_s: float
    at_most: bool  # whether the numbers are upper bounds

    @property
    def seconds(self) -> float:
        """Expected duration of the run."""
        prompts = (self.prefix_tokens + self.prompt_tokens) / self.prompt_tokens_per_s
        return prompts + self.path_tokens / self.path_tokens_per_s

    def as_text(self) -> str:
        """A few lines for a person."""
        most = "at most " if self.at_most else ""
        return "\n".join(
            [
                f"{self.n_texts} texts, {self.n_variants} prompt variants, {most}{self.n_paths} paths",
                f"tokens: {self.prefix_tokens} shared, {self.prompt_tokens} of texts, about {self.path_tokens} sampled",
                f"this machine reads {self.prompt_tokens_per_s:.0f} and draws {self.path_tokens_per_s:.0f} tokens/s",
                f"about {most}{duration(self.seconds)}, {self.seconds / self.n_texts:.2f} s a text",
            ]
        )


def forecast(
    task: Task, texts: Sequence[Text], teacher: LocalTeacher, config: LabelConfig, nearest: Nearest | None = None
) -> Forecast:
    """Count the tokens of every prompt, and measure the machine's speed if it was not measured before.

    Raises:
        UserError: as :func:`potstill.labeler.prompts.variants.prompt_variants` does.
    """
    config = with_mode(config, best_mode(teacher.identity.name))
    variants = prompt_variants(task, config, teacher.identity, nearest)
    counted = [_tokens(variant, texts, teacher, config) for variant in variants]
    speed = teacher.settings_after(variants[0].prefix, variants[0].prompt(texts[0]), variants[0].spec)
    return Forecast(
        n_texts=len(texts),
        n_variants=len(variants),
        n_paths=sum(_n_texts(variant, texts, config) * len(variant.paths) for variant in variants),
        prefix_tokens=sum(prefix for prefix, _, _ in counted),
        prompt_tokens=sum(prompt for _, prompt, _ in counted),
        path_tokens=sum(sampled for _, _, sampled in counted),
        prompt_tokens_per_s=speed.prompt_tokens_per_s,
        path_tokens_per_s=speed.path_tokens_per_s,
        at_most=config.bound > 0,
    )


def forecast_questions(task: Questionnaire, texts: Sequence[Text], teacher: LocalTeacher, config: LabelConfig) -> Forecast:
    """The cost of a task of several questions: the tokens that its questions share are counted once.

    Raises:
        UserError: as :func:`forecast`, or if worked examples are to be chosen by similarity.
    """
    config = with_mode(config, best_mode(teacher.identity.name))
    if config.examples == "nearest":
        raise UserError("a dry run of several questions is for examples given or diverse; leave out --examples nearest")
    together = shares_prompt(config)
    parts = [forecast(ask.task, texts, teacher, config) for ask in (asked_alone(task) if together else task.asks())]
    for forks in asked_together(task) if together else []:
        variants = shared_variants(task, forks, config)
        counted = [_shared_tokens(variant, texts, teacher) for variant in variants]
        speed = teacher.settings_after(variants[0].prefix, variants[0].prompt(texts[0], 0), variants[0].specs[0])
        parts.append(
            Forecast(
                n_texts=len(texts),
                n_variants=len(variants),
                n_paths=len(texts) * len(variants[0].asks) * sum(len(variant.paths) for variant in variants),
                prefix_tokens=sum(prefix for prefix, _, _ in counted),
                prompt_tokens=sum(prompt for _, prompt, _ in counted),
                path_tokens=sum(sampled for _, _, sampled in counted),
                prompt_tokens_per_s=speed.prompt_tokens_per_s,
                path_tokens_per_s=speed.path_tokens_per_s,
                at_most=False,
            )
        )
    return replace(
        parts[-1],
        n_variants=sum(part.n_variants for part in parts),
        n_paths=sum(part.n_paths for part in parts),
        prefix_tokens=sum(part.prefix_tokens for part in parts),
        prompt_tokens=sum(part.prompt_tokens for part in parts),
        path_tokens=sum(part.path_tokens for part in parts),
        at_most=config.bound > 0,
    )


def _shared_tokens(variant: SharedVariant, texts: Sequence[Text], teacher: LocalTeacher) -> tuple[int, int, int]:
    """(shared by all texts, of texts and questions, sampled) tokens of one prompt variant of several questions."""
    prefix, own = teacher.count_tokens(variant.prefix, [variant.prompt(text, 0) for text in texts], variant.specs[0])
    places = range(len(variant.forks))
    _, fields = teacher.count_tokens("", [f"\n{variant.cue(place)}" for place in places], None)
    n_prompt = sum(own) + len(texts) * sum(fields[1:])  # the first question's field is in its prompts
    if variant.mode == "direct":
        return prefix, n_prompt, 0
    shown = [example.rationale for fork in variant.forks for example in fork.asks[0].task.examples if example.rationale.strip()]
    _, lengths = teacher.count_tokens("", [f" {rationale}\n{variant.specs[0].answer_cue}" for rationale in shown], None)
    length = sum(lengths) / len(lengths) if lengths else variant.specs[0].max_rationale_tokens
    return prefix, n_prompt, round(len(texts) * len(variant.forks) * len(variant.paths) * length)


def _tokens(variant: PromptVariant, texts: Sequence[Text], teacher: LocalTeacher, config: LabelConfig) -> tuple[int, int, int]:
    """(shared, of texts, sampled) tokens of one variant."""
    prefix, own = teacher.count_tokens(variant.prefix, [variant.prompt(text) for text in texts], variant.spec)
    n_texts = _n_texts(variant, texts, config)
    sampled = 0.0
    if variant.mode == "cot":
        rationales = [example.rationale for example in variant.task.examples]
        _, lengths = teacher.count_tokens("", [f" {rationale}\n{variant.spec.answer_cue}" for rationale in rationales], None)
        bounded = variant.spec.thought or not lengths
        length = variant.spec.max_rationale_tokens if bounded else sum(lengths) / len(lengths)
        sampled = n_texts * len(variant.paths) * length
    return prefix, round(sum(own) * n_texts / len(texts)), round(sampled)


def _n_texts(variant: PromptVariant, texts: Sequence[Text], config: LabelConfig) -> int:
    """Number of texts that the variant asks about."""
    return round(config.uncertain * len(texts)) if config.mode == "cascade" and variant.mode == "cot" else len(texts)


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
