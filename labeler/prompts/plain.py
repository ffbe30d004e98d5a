"""The prompt: guideline, worked examples in some order, then one text. Plain text, as a document that goes on.

The form follows arXiv 2212.11311: worked examples in which an opinion comes first and the label after it. Everything up to
the text is the *prefix*, shared by all texts of a prompt variant; the terms that a text needs explained come after it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from potstill.contract.task import Example, Knowledge, Task
from potstill.labeler.teacher import Mode


@dataclass(frozen=True)
class ExampleSelection:
    """One choice and order of worked examples."""

    number: int
    examples: tuple[Example, ...]


def variants(task: Task, n_variants: int, n_per_label: int, seed: int, *, examples: str = "diverse") -> list[ExampleSelection]:
    """Different prompts for one task.

    The first is the task's own examples in their own order. In the others they are shuffled, and the label of the last example goes
    round: the teacher leans towards what it read last.

    Args:
        n_variants: at least 1.
        n_per_label: worked examples of each label; fewer where the task has fewer.
        seed: equal seeds give equal variants.
        examples: `diverse` draws each variant's examples anew where a label has more than needed; with `given` all variants have
            those of the first.
    """
    rng = random.Random(seed)
    by_label = {name: [e for e in task.examples if e.label == name] for name in task.label_names}
    first = [e for e in task.examples if e in by_label[e.label][:n_per_label]]
    if examples == "given":
        by_label = {name: [e for e in first if e.label == name] for name in task.label_names}
    made = [ExampleSelection(0, tuple(first))]
    for number in range(1, n_variants):
        chosen = [e for pool in by_label.values() for e in rng.sample(pool, min(n_per_label, len(pool)))]
        made.append(ExampleSelection(number, shuffled(task, chosen, number, rng)))
    return made


def shuffled(task: Task, examples: Sequence[Example], number: int, rng: random.Random) -> tuple[Example, ...]:
    """The examples in another order, with one of the label whose turn it is as the last. Args: number, of the variant."""
    mixed = list(examples)
    rng.shuffle(mixed)
    last_label = task.label_names[number % len(task.labels)]
    last = next(i for i in reversed(range(len(mixed))) if mixed[i].label == last_label)
    mixed.append(mixed.pop(last))
    return tuple(mixed)


def prefix(task: Task, variant: ExampleSelection, mode: Mode, *, guideline: bool = True) -> str:
    """Guideline, question and worked examples; ends with a blank line."""
    return "\n\n".join((head(task, guideline=guideline), *(worked(task, e, mode) for e in variant.examples))) + "\n\n"


def head(task: Task, *, guideline: bool = True) -> str:
    """Guideline, question and what may be answered."""
    answers = [f"- {label.spellings[0]}: {label.meaning}" for label in task.labels]
    return "\n".join(part for part in (task.guideline.strip() * guideline, task.question.strip(), *answers) if part)


def worked(task: Task, example: Example, mode: Mode) -> str:
    """A worked example: its block and the answer that the teacher is to imitate."""
    return block(task, example.text, example.target, mode) + answer(task, example, mode)


def block(task: Task, text: str, target: str | None, mode: Mode) -> str:
    """One text up to the cue that the teacher continues: terms it holds, target, text, cue."""
    return f"{told(task, text, target)}\n{cue(task, mode)}"


def told(task: Task, text: str, target: str | None) -> str:
    """What the teacher is told about one text: terms it holds, target, text."""
    lines = [f"Note: {entry.term} = {entry.meaning}" for entry in knowledge_in(task, text)]
    if task.input.target and target:
        lines.append(f"{task.input.target_noun}: {target}")
    return "\n".join((*lines, f"{task.input.noun}: {shown(task, text)}"))


def cue(task: Task, mode: Mode) -> str:
    """What the teacher continues: `Opinion:` or `Answer:`."""
    return f"{task.prompt.rationale if mode == 'cot' else task.prompt.answer}:"


def shown(task: Task, text: str) -> str:
    """The part of a text that the teacher sees, on one line: a line break would end the text too early."""
    return " ".join(text.split())[: task.input.max_chars]


def knowledge_in(task: Task, text: str) -> list[Knowledge]:
    """The entries whose term occurs in the shown text as whole words, whatever the case."""
    visible = shown(task, text)
    return [entry for entry in task.knowledge if entry.occurs_in(visible)]


def answer(task: Task, example: Example, mode: Mode) -> str:
    """What the teacher is to imitate after the cue."""
    word = next(label.spellings[0] for label in task.labels if label.name == example.label)
    if mode == "direct":
        return f" {word}"
    return f" {' '.join(example.rationale.split())}\n{task.prompt.answer}: {word}"
