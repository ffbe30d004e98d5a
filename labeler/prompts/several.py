"""The prompts of a task of several questions: one prefix for all of them, in which every text is followed by fields.

    {guideline}
    Stance: What does the author expect of the price?
    - bullish: ...
    Sure: How sure is the author?
    - low
    - high

    Post: {worked example}
    Stance: bullish
    Sure: high

    Post: {text}

Then every question goes on by itself with its own field, `Stance:`. The field and not the question, which stands above, is written
after a text, because it is what every question costs for every text.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from potstill.contract.files import digest
from potstill.contract.questions.gold import answers_of
from potstill.contract.questions.question import NO, YES
from potstill.contract.questions.questionnaire import Ask, Questionnaire
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts import plain
from potstill.labeler.teacher import AnswerSpec, Mode

MOST_LABELS = 20  # of a question that shares a prompt; one with more takes the whole prompt for itself, and is asked alone
MOST_TOGETHER = 16  # questions and tags in one prompt; with more, every text is read once for so many


@dataclass(frozen=True)
class SharedVariant:
    """One prompt variant for questions that are asked together."""

    number: int
    mode: Mode
    prefix: str
    specs: tuple[AnswerSpec, ...]  # by question
    asks: tuple[Ask, ...]
    paths: tuple[int, ...]  # numbers of the paths that it draws for each text and question

    def prompt(self, text: Text, place: int) -> str:
        """One text's part of the prompt for a question. Args: place, of the question in `asks`."""
        return f"{plain.text_lines(self.asks[place].task, text.text, text.target)}\n{self.cue(place)}"

    def cue(self, place: int) -> str:
        """What follows a text for a question, up to where the teacher continues. Args: place, of the question in `asks`."""
        spec = self.specs[place]
        return spec.rationale_cue if self.mode == "cot" else spec.answer_cue


def shares_prompt(config: LabelConfig) -> bool:
    """Whether questions share a prompt, with a teacher in this process; otherwise each is asked alone, one after the other."""
    return config.template == "plain" and config.examples != "nearest" and config.mode in ("direct", "cot") and not config.bound


def shared_prompts(task: Questionnaire, variant: int, config: LabelConfig, text: Text) -> list[tuple[str, list[str]]]:
    """(prefix and text, what follows it for each question) of one prompt variant, for each group of questions.

    Args:
        variant: its number, from 0; it may exceed the number that the configuration asks for.
    """
    wide = replace(config, n_variants=variant + 1, n_paths=variant + 1)
    found = []
    for asks in asked_together(task):
        made = shared_variants(task, asks, wide)[variant]
        ends = [made.cue(place) for place in range(len(asks))]
        found.append((made.prefix + plain.text_lines(asks[0].task, text.text, text.target), ends))
    return found


def asked_together(task: Questionnaire) -> list[list[Ask]]:
    """The questions that share a prompt, in groups that are as even as possible, in the task's order."""
    asks = [ask for ask in task.asks() if len(ask.task.labels) <= MOST_LABELS]
    n_groups = -(-len(asks) // MOST_TOGETHER)
    n_each = -(-len(asks) // max(1, n_groups))
    return [asks[i : i + n_each] for i in range(0, len(asks), n_each or 1)]


def asked_alone(task: Questionnaire) -> list[Ask]:
    """The questions with too many labels to share a prompt."""
    return [ask for ask in task.asks() if len(ask.task.labels) > MOST_LABELS]


def shared_variants(task: Questionnaire, asks: Sequence[Ask], config: LabelConfig) -> list[SharedVariant]:
    """The prompt variants of questions that are asked together; they differ in the order of examples, answers and questions.

    Args:
        config: in mode `direct` or `cot`, with template `plain`.
    """
    mode: Mode = "cot" if config.mode == "cot" else "direct"
    n_variants = config.direct_variants + config.cot_variants
    made = []
    for number in range(n_variants):
        paths = range(number, min(number + 1, config.most_paths))
        if mode == "cot":
            paths = range(number, config.most_paths, n_variants)
        chosen = _examples(task, asks, mode, number, config)
        prefix = "\n\n".join((_head(task, asks, number, config), *chosen)) + "\n\n"
        specs = tuple(_spec(ask, mode, config) for ask in asks)
        made.append(SharedVariant(number, mode, prefix, specs, tuple(asks), tuple(paths)))
    return made


def variants_digest(variants: Sequence[SharedVariant]) -> str:
    """SHA-256 of all prompt parts that do not come from a text."""
    return digest.of_value([[variant.prefix, *(spec.answer_cue for spec in variant.specs)] for variant in variants])


def field(ask: Ask) -> str:
    """What is written after a text where a question is asked: `Stance`, `Topics, price`."""
    name = ask.question.name.replace("_", " ")
    return (name if ask.tag is None else f"{name}, {' '.join(ask.tag.split())}").capitalize()


def _spec(ask: Ask, mode: Mode, config: LabelConfig) -> AnswerSpec:
    """How one question's answers are read."""
    return AnswerSpec(
        mode=mode,
        words=tuple(word for label in ask.task.labels for word in label.spellings),
        rationale_cue=_rationale_cue(ask),
        answer_cue=f"{field(ask)}:",
        temperature=config.temperature,
        max_rationale_tokens=config.max_rationale_tokens,
    )


def _rationale_cue(ask: Ask) -> str:
    """The cue before a question's rationale: `Stance, opinion:`."""
    return f"{field(ask)}, {ask.task.prompt.rationale.lower()}:"


def _turned(asks: Sequence[Ask], number: int) -> list[Ask]:
    """The questions, another one first each time."""
    start = number % len(asks)
    return [*asks[start:], *asks[:start]]


def _head(task: Questionnaire, asks: Sequence[Ask], number: int, config: LabelConfig) -> str:
    """Guidelines, questions and answers. Args: number, of the variant; with it the answers and questions turn."""
    parts = [task.guideline.strip()] if config.guideline else []
    for ask in _turned(asks, number):
        if config.guideline and (own := ask.question.guideline.strip()):
            parts.append(own)
        parts.append(f"{field(ask)}: {ask.task.question}")
        labels = plain.in_order(ask.task, number)
        if ask.tag is not None or (ask.question.kind == "yesno" and not any(label.meaning for label in labels)):
            parts[-1] += f" ({' or '.join(label.spellings[0] for label in labels)})"
        else:
            parts += [plain.answer_line(label) for label in labels]
    return "\n".join(part for part in parts if part)


def _examples(task: Questionnaire, asks: Sequence[Ask], mode: Mode, number: int, config: LabelConfig) -> list[str]:
    """Worked examples with the answers to the questions, in the order of this variant."""
    answered = _answered(task, asks, mode)
    order = list(range(len(task.examples)))
    rng = random.Random(f"{config.seed} {number}")
    if number and config.examples == "diverse":
        rng.shuffle(order)  # others are taken where there are more than needed
    chosen = _taken(answered, order, config.n_examples_per_label)
    if number:
        rng.shuffle(chosen)
    else:
        chosen.sort()
    blocks = []
    for place, index in enumerate(chosen):
        example = task.examples[index]
        lines = [answered[index][ask.key] for ask in _turned(asks, number + place) if ask.key in answered[index]]
        text = plain.text_lines(asks[0].task, example.text, example.target)
        blocks.append("\n".join((text, *(line for _, line in lines))))
    return blocks


def _answered(task: Questionnaire, asks: Sequence[Ask], mode: Mode) -> list[dict[str, tuple[str, str]]]:
    """Of each worked example, by question: (label, the lines that show it); without rationale it is no example for reasoning."""
    found = []
    for example in task.examples:
        own: dict[str, tuple[str, str]] = {}
        answers = answers_of(Path(), "", task.questions, example.answers)
        for ask in asks:
            labels, rationale = answers.get(ask.question.name), example.rationales.get(ask.question.name, "")
            if labels is None or (mode == "cot" and not rationale.strip()):
                continue
            label = labels[0] if ask.tag is None else YES if ask.tag in labels else NO
            word = next(own.spellings[0] for own in ask.task.labels if own.name == label)
            reason = f"{_rationale_cue(ask)} {' '.join(rationale.split())}\n" if mode == "cot" else ""
            own[ask.key] = label, f"{reason}{field(ask)}: {word}"
        found.append(own)
    return found


def _taken(answered: Sequence[dict[str, tuple[str, str]]], order: Sequence[int], n_per_label: int) -> list[int]:
    """The examples that are shown: in that order, each that has an answer of which there are not enough yet."""
    shown: Counter[tuple[str, str]] = Counter()
    chosen = []
    for index in order:
        answers = {(key, label) for key, (label, _) in answered[index].items()}
        if any(shown[answer] < n_per_label for answer in answers):
            chosen.append(index)
            shown.update(answers)
    return chosen
