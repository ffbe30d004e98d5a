"""What a server is asked that takes no plain text: the turns of a conversation, or one question with its options.

The server writes the conversation in the model's own template. No cue can be forced at its end, so the label is all that the model
says in its turn; a rationale is a turn of its own, and the label is asked for in the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from potstill.contract.task import Task
from potstill.labeler.prompts import plain
from potstill.labeler.prompts.plain import ExampleSelection
from potstill.labeler.teacher import Message, Mode, PutQuestion

# Two ways to put the question, each with the guideline and without: a decision model gives other probabilities after other words.
_LEADS = ("", "Choose the option that fits best.")


def conversation(task: Task, selection: ExampleSelection, mode: Mode, *, guideline: bool) -> tuple[Message, ...]:
    """The turns before a text's own: guideline, question and answers as the system message, and the worked examples."""
    made = [Message("system", plain.head(task, guideline=guideline, order=plain.order_of(task, selection)))]
    for example in selection.examples:
        word = next(label.spellings[0] for label in task.labels if label.name == example.label)
        made.append(Message("user", plain.block(task, example.text, example.target, mode)))
        if mode == "cot":
            made.append(Message("assistant", " ".join(example.rationale.split())))
            made.append(Message("user", plain.cue(task, "direct")))
        made.append(Message("assistant", word))
    return tuple(made)


def question(task: Task, number: int, *, guideline: bool) -> PutQuestion:
    """The question of one prompt variant. Variants differ in the order of the options and in the wording.

    Orders and wordings take turns, so that every label stands at every place equally often, with each wording. Number 0 has the
    task's own order and its guideline. There are labels x wordings x 2 different questions (the last factor: orders reversed, for
    three labels and more); then they come again.

    Args:
        number: of the variant, from 0.
        guideline: whether any wording has the guideline.
    """
    guide = task.guideline.strip() if guideline else ""
    wordings = [(own, lead) for lead in _LEADS for own in ((guide, "") if guide else ("",))]
    n_orders, n_wordings = len(task.labels), len(wordings)
    shift, own_guide, lead = number % n_orders, *wordings[(number + number // math.lcm(n_orders, n_wordings)) % n_wordings]
    labels = task.labels[shift:] + task.labels[:shift]
    if number // (n_orders * n_wordings) % 2:
        labels.reverse()
    instructions = "\n".join(part for part in (own_guide, task.question.strip(), lead) if part)
    return PutQuestion(instructions, tuple((label.spellings[0], label.meaning) for label in labels))


def picture(messages: tuple[Message, ...], asked: PutQuestion | None) -> str:
    """The turns, or the question, as text: for a reader, and for the digest of the prompt."""
    return "".join(_lines(messages, asked))


def _lines(messages: tuple[Message, ...], asked: PutQuestion | None) -> Iterator[str]:
    """The parts of the picture."""
    for message in messages:
        yield f"[{message.role}]\n{message.content}\n\n"
    if messages:
        yield "[user]\n"
    if asked is not None:
        yield f"[question]\n{asked.instructions}\n\n[options]\n"
        yield from (f"- {word}: {meaning}\n" for word, meaning in asked.options)
        yield "\n[text]\n"
