"""The plain-text prompt: guideline, worked examples, then one text, as a document that the teacher continues.

The form follows arXiv 2212.11311: in each worked example an opinion comes first and the label after it. Everything up to
the text is the *prefix*, shared by all texts of a prompt variant; notes on the terms that a text contains come after it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from potstill.contract.task import Example, Knowledge, Label, Task
from potstill.labeler.teacher import AnswerSpec, Mode

_LEADS = ("", "Choose the answer that fits best.")  # two wordings, where prompts have no worked examples to differ in


@dataclass(frozen=True)
class ExampleSelection:
    """One choice and order of worked examples."""

    number: int
    examples: tuple[Example, ...]


def example_selections(
    task: Task, n_selections: int, n_per_label: int, seed: int, *, examples: str = "diverse"
) -> list[ExampleSelection]:
    """Choose and order worked examples, once for each prompt variant.

    The first selection has the task's own examples in their own order. The others are shuffled and take turns in which label
    comes last, because the teacher leans towards what it read last.

    Args:
        n_selections: at least 1.
        n_per_label: worked examples of each label; fewer where the task has fewer.
        seed: equal seeds give equal selections.
        examples: `diverse` samples anew for each selection where a label has more than needed; with `given` all selections have
            the examples of the first.
    """
    rng = random.Random(seed)
    by_label = {name: [e for e in task.examples if e.label == name] for name in task.label_names}
    first = [e for e in task.examples if e in by_label[e.label][:n_per_label]]
    if examples == "given":
        by_label = {name: [e for e in first if e.label == name] for name in task.label_names}
    made = [ExampleSelection(0, tuple(first))]
    for number in range(1, n_selections):
        chosen = [e for pool in by_label.values() for e in rng.sample(pool, min(n_per_label, len(pool)))]
        made.append(ExampleSelection(number, shuffled(task, chosen, number, rng)))
    return made


def shuffled(task: Task, examples: Sequence[Example], number: int, rng: random.Random) -> tuple[Example, ...]:
    """The examples in random order, ending with one of the label whose turn it is. Args: number of the selection."""
    mixed = list(examples)
    rng.shuffle(mixed)
    last_label = task.label_names[number % len(task.labels)]
    last = next((i for i in reversed(range(len(mixed))) if mixed[i].label == last_label), None)
    if last is not None:  # a label may have no example
        mixed.append(mixed.pop(last))
    return tuple(mixed)


def with_rationales(selection: ExampleSelection) -> ExampleSelection:
    """The selection without the examples that show no reasoning: a teacher that is to reason would imitate them."""
    return replace(selection, examples=tuple(example for example in selection.examples if example.rationale.strip()))


def prefix(task: Task, selection: ExampleSelection, mode: Mode, *, guideline: bool = True) -> str:
    """Guideline, question and worked examples; ends with a blank line."""
    own = head(task, guideline=guideline, order=order_of(task, selection))
    return "\n\n".join((own, *(worked_example(task, e, mode) for e in selection.examples))) + "\n\n"


def order_of(task: Task, selection: ExampleSelection) -> int:
    """The order of the answers in a prompt: the task's own, unless it has no worked examples in which prompts could differ."""
    return 0 if task.examples else selection.number


def head(task: Task, *, guideline: bool = True, order: int = 0) -> str:
    """Guideline, question and the list of allowed answers.

    Args:
        order: of the answers. They take turns at every place; after as many orders as there are labels the rest are reversed, for
            three labels and more, then the question has another wording, and then orders come again. 0 is the task's own.
    """
    lead = _LEADS[order // _n_orders(task) % len(_LEADS)]
    answers = [answer_line(label) for label in in_order(task, order)]
    guide = task.guideline.strip() if guideline else ""
    return "\n".join(part for part in (guide, task.question.strip(), lead, *answers) if part)


def in_order(task: Task, order: int) -> list[Label]:
    """The labels in one of their orders, see :func:`head`."""
    n = len(task.labels) or 1  # none where every text has its own candidates
    labels = task.labels[order % n :] + task.labels[: order % n]
    if order % _n_orders(task) >= n:
        labels.reverse()
    return labels


def _n_orders(task: Task) -> int:
    """Number of orders of the labels; reversing two labels would give an order again."""
    n = len(task.labels) or 1
    return n if n == 2 else 2 * n


def offer(task: Task, labels: Sequence[int]) -> str:
    """The answers that one text may have, a line each. Args: labels, their indices."""
    lines = [task.labels[label] for label in labels]
    return "\n".join(["Possible answers:", *(answer_line(label) for label in lines)])


def answer_line(label: Label) -> str:
    """An allowed answer as the prompt lists it: `- bullish: expects a rise`."""
    return f"- {label.spellings[0]}: {label.meaning}" if label.meaning else f"- {label.spellings[0]}"


def worked_example(task: Task, example: Example, mode: Mode) -> str:
    """One worked example: its block and the answer for the teacher to imitate."""
    return block(task, example.text, example.target, mode) + answer(task, example, mode)


def block(task: Task, text: str, target: str | None, mode: Mode) -> str:
    """One text up to the cue that the teacher continues: notes on its terms, target, text, cue."""
    return f"{text_lines(task, text, target)}\n{cue(task, mode)}"


def text_lines(task: Task, text: str, target: str | None) -> str:
    """One text without a cue: notes on its terms, target, text."""
    lines = [f"Note: {entry.term} = {entry.meaning}" for entry in knowledge_in(task, text)]
    if task.input.target and target:
        lines.append(f"{task.input.target_noun}: {target}")
    return "\n".join((*lines, f"{task.input.noun}: {visible_text(task, text)}"))


def cue(task: Task, mode: Mode) -> str:
    """The cue that the teacher continues: `Opinion:` or `Answer:`."""
    return f"{task.prompt.rationale if mode == 'cot' else task.prompt.answer}:"


def visible_text(task: Task, text: str) -> str:
    """The part of a text that the teacher sees, on one line, because a line break ends a text in the prompt."""
    return " ".join(text.split())[: task.input.max_chars]


def knowledge_in(task: Task, text: str) -> list[Knowledge]:
    """The knowledge entries whose term occurs in the visible text as whole words, ignoring case."""
    visible = visible_text(task, text)
    return [entry for entry in task.knowledge if entry.occurs_in(visible)]


def answer(task: Task, example: Example, mode: Mode) -> str:
    """A worked example's answer after the cue."""
    word = next(label.spellings[0] for label in task.labels if label.name == example.label)
    if mode == "direct":
        return f" {word}"
    return f" {' '.join(example.rationale.split())}\n{task.prompt.answer}: {word}"


def written_after(task: Task, lead: str, temperature: float, max_tokens: int) -> AnswerSpec:
    """How a teacher is asked to write a line after a lead; the label that is read behind it says nothing."""
    return AnswerSpec(
        mode="cot",
        words=tuple(word for label in task.labels for word in label.spellings),
        rationale_cue=lead,
        answer_cue=cue(task, "direct"),
        temperature=temperature,
        max_rationale_tokens=max_tokens,
    )
