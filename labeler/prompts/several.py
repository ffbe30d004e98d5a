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
after a text, because it is what every question costs for every text. All tags of a question have one field, see `listed.py`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from potstill.contract.files import digest
from potstill.contract.questions.gold import answers_of
from potstill.contract.questions.questionnaire import AnsweredExample, Ask, Questionnaire
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts import listed, plain
from potstill.labeler.teacher import AnswerSpec, Mode, TeacherPath, TooLong

T = TypeVar("T")
MOST_LABELS = 20  # of a question that shares a prompt; one with more is asked alone, and more tags are asked in several lists
MOST_TOGETHER = 16  # questions in one prompt; with more, every text is read once for so many


@dataclass(frozen=True)
class Fork:
    """What is asked after a text at a time: a question, or tags of one question."""

    asks: tuple[Ask, ...]  # more than one only of tags

    @property
    def lists(self) -> bool:
        """Whether the answer is a list of tags."""
        return self.asks[0].tag is not None

    @property
    def key(self) -> str:
        """Name of the question, which no other fork of a prompt has."""
        return self.asks[0].question.name

    @property
    def field(self) -> str:
        """What is written after a text: `Stance`."""
        return self.key.replace("_", " ").capitalize()

    @property
    def rationale_cue(self) -> str:
        """The cue before a rationale: `Stance, opinion:`."""
        return f"{self.field}, {self.asks[0].task.prompt.rationale.lower()}:"

    @property
    def words(self) -> tuple[str, ...]:
        """The words whose probabilities are read."""
        if self.lists:
            return listed.words(self.asks)
        return tuple(word for label in self.asks[0].task.labels for word in label.spellings)

    def words_of(self, ask: Ask) -> list[str]:
        """The words that a path of one of the questions has log-probabilities of."""
        return listed.words_of_tag(self.asks, ask) if self.lists else list(self.words)

    def results(self, result: TeacherPath | TooLong) -> list[TeacherPath | TooLong]:
        """What the answer to a fork says of its question, or of each of its tags."""
        if not self.lists:
            return [result]
        if isinstance(result, TooLong):
            return [replace(result, question=ask.key) for ask in self.asks]
        return [*listed.paths_of_tags(self.asks, result)]


@dataclass(frozen=True)
class SharedVariant:
    """One prompt variant for questions that are asked together."""

    number: int
    mode: Mode
    prefix: str
    specs: tuple[AnswerSpec, ...]  # by fork
    forks: tuple[Fork, ...]
    paths: tuple[int, ...]  # numbers of the paths that it draws for each text and question

    @property
    def asks(self) -> list[Ask]:
        """The questions and tags, in the order of the forks."""
        return [ask for fork in self.forks for ask in fork.asks]

    def prompt(self, text: Text, place: int) -> str:
        """One text's part of the prompt for a question. Args: place, of the fork."""
        return f"{plain.text_lines(self.forks[place].asks[0].task, text.text, text.target)}\n{self.cue(place)}"

    def cue(self, place: int) -> str:
        """What follows a text for a question, up to where the teacher continues. Args: place, of the fork."""
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
    for forks in asked_together(task):
        made = shared_variants(task, forks, wide)[variant]
        ends = [made.cue(place) for place in range(len(forks))]
        found.append((made.prefix + plain.text_lines(made.asks[0].task, text.text, text.target), ends))
    return found


def asked_together(task: Questionnaire) -> list[list[Fork]]:
    """The questions that share a prompt, in groups that are as even as possible, in the task's order.

    Of a question with more than MOST_LABELS tags, each group has a list of its own.
    """
    lists = []
    for question in task.questions:
        asks = [ask for ask in task.asks_of(question) if len(ask.task.labels) <= MOST_LABELS]
        lists.append([Fork(tuple(own)) for own in _evenly(asks, MOST_LABELS)])
    rounds = [[fork for fork in each if fork is not None] for each in zip_longest(*lists)]
    return [group for forks in rounds for group in _evenly(forks, MOST_TOGETHER)]


def _evenly(values: list[T], n_most: int) -> list[list[T]]:
    """The values in as few parts as possible, of like size. Args: n_most, in one part."""
    n_parts = -(-len(values) // n_most)
    n_each = -(-len(values) // max(1, n_parts))
    return [values[i : i + n_each] for i in range(0, len(values), n_each or 1)]


def asked_alone(task: Questionnaire) -> list[Ask]:
    """The questions with too many labels to share a prompt."""
    return [ask for ask in task.asks() if len(ask.task.labels) > MOST_LABELS]


def shared_variants(task: Questionnaire, forks: Sequence[Fork], config: LabelConfig) -> list[SharedVariant]:
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
        chosen = _examples(task, forks, mode, number, config)
        prefix = "\n\n".join((_head(task, forks, number, config), *chosen)) + "\n\n"
        specs = tuple(_spec(fork, mode, config) for fork in forks)
        made.append(SharedVariant(number, mode, prefix, specs, tuple(forks), tuple(paths)))
    return made


def variants_digest(variants: Sequence[SharedVariant]) -> str:
    """SHA-256 of all prompt parts that do not come from a text."""
    return digest.of_value([[variant.prefix, *(spec.answer_cue for spec in variant.specs)] for variant in variants])


def _spec(fork: Fork, mode: Mode, config: LabelConfig) -> AnswerSpec:
    """How one question's answers are read."""
    return AnswerSpec(
        mode=mode,
        words=fork.words,
        rationale_cue=fork.rationale_cue,
        answer_cue=f"{fork.field}:",
        temperature=config.temperature,
        max_rationale_tokens=config.max_rationale_tokens,
    )


def _turned(forks: Sequence[Fork], number: int) -> list[Fork]:
    """The questions, another one first each time."""
    start = number % len(forks)
    return [*forks[start:], *forks[:start]]


def _head(task: Questionnaire, forks: Sequence[Fork], number: int, config: LabelConfig) -> str:
    """Guidelines, questions and answers. Args: number, of the variant; with it the answers and questions turn."""
    parts = [task.guideline.strip()] if config.guideline else []
    for fork in _turned(forks, number):
        ask = fork.asks[0]
        if config.guideline and (own := ask.question.guideline.strip()):
            parts.append(own)
        if fork.lists:
            question, *tags = listed.head(fork.asks, number)
            parts += [f"{fork.field}: {question}", *tags]
            continue
        parts.append(f"{fork.field}: {ask.task.question}")
        labels = plain.in_order(ask.task, number)
        if ask.question.kind == "yesno" and not any(label.meaning for label in labels):
            parts[-1] += f" ({' or '.join(label.spellings[0] for label in labels)})"
        else:
            parts += [plain.answer_line(label) for label in labels]
    return "\n".join(part for part in parts if part)


def _examples(task: Questionnaire, forks: Sequence[Fork], mode: Mode, number: int, config: LabelConfig) -> list[str]:
    """Worked examples with the answers to the questions, in the order of this variant."""
    held = [_answered(example, task, forks, mode) for example in task.examples]
    order = list(range(len(task.examples)))
    rng = random.Random(f"{config.seed} {number}")
    if number and config.examples == "diverse":
        rng.shuffle(order)  # others are taken where there are more than needed
    chosen = _taken(held, order, config.n_examples_per_label)
    if number:
        rng.shuffle(chosen)
    else:
        chosen.sort()
    blocks = []
    for place, index in enumerate(chosen):
        example = task.examples[index]
        lines = [plain.text_lines(forks[0].asks[0].task, example.text, example.target)]
        for fork in _turned(forks, number + place):
            if fork.key in held[index]:
                lines += _answer_lines(fork, example, held[index][fork.key], mode, number + place)
        blocks.append("\n".join(lines))
    return blocks


def _answered(example: AnsweredExample, task: Questionnaire, forks: Sequence[Fork], mode: Mode) -> dict[str, list[str]]:
    """The labels that hold of a worked example, by fork; without rationale it is no example for reasoning."""
    answers = answers_of(Path(), "", task.questions, example.answers)
    found = {}
    for fork in forks:
        if fork.key in answers and (mode == "direct" or example.rationales.get(fork.key, "").strip()):
            tags = {ask.tag for ask in fork.asks}
            found[fork.key] = [label for label in answers[fork.key] if not fork.lists or label in tags]
    return found


def _answer_lines(fork: Fork, example: AnsweredExample, labels: Sequence[str], mode: Mode, number: int) -> list[str]:
    """How an example shows an answer. Args: labels, that hold; number, decides which tag comes first."""
    if fork.lists:
        shown = listed.answer(fork.asks, labels, number)
    else:
        shown = next(own.spellings[0] for own in fork.asks[0].task.labels if own.name == labels[0])
    reason = [f"{fork.rationale_cue} {' '.join(example.rationales[fork.key].split())}"] if mode == "cot" else []
    return [*reason, f"{fork.field}: {shown}"]


def _taken(held: Sequence[dict[str, list[str]]], order: Sequence[int], n_per_label: int) -> list[int]:
    """The examples that are shown: in that order, each that has an answer of which there are not enough yet."""
    shown: Counter[tuple[str, str]] = Counter()
    chosen = []
    for index in order:
        answers = {(key, label) for key, labels in held[index].items() for label in (labels or [""])}
        if any(shown[answer] < n_per_label for answer in answers):
            chosen.append(index)
            shown.update(answers)
    return chosen
