"""The prompt as a conversation in the model's own chat template: worked examples are earlier turns, the text is the last one.

The template comes from the teacher's file, so it is rendered in a sandbox. The rendered conversation is split at the last text:
before it stands the prefix that all texts share, after it the tail.
"""

from __future__ import annotations

from datetime import datetime
from typing import NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from potstill.contract.errors import UserError
from potstill.contract.task import Task
from potstill.labeler.prompts import plain
from potstill.labeler.prompts.plain import ExampleSelection
from potstill.labeler.teacher import Mode

_TEXT = "@@the text@@"  # stands for the text while the template is rendered


def conversation(task: Task, selection: ExampleSelection, mode: Mode, *, guideline: bool, template: str) -> tuple[str, str]:
    """Render the conversation as (prefix, tail) around the text; the tail ends with the cue that the teacher continues.

    Args:
        template: Jinja source, with the variables that Hugging Face's chat templates use.
    Raises:
        UserError: if the template is empty, cannot be rendered, or drops the last text.
    """
    if not template:
        raise UserError("the teacher has no chat template of its own; use --template plain")
    head = plain.head(task, guideline=guideline)
    cue = plain.cue(task, mode)
    turns = []
    for i, example in enumerate(selection.examples):
        question = plain.text_lines(task, example.text, example.target)
        turns.append({"role": "user", "content": question if i else f"{head}\n\n{question}"})
        turns.append({"role": "assistant", "content": cue + plain.answer(task, example, mode)})
    turns.append({"role": "user", "content": _TEXT if turns else f"{head}\n\n{_TEXT}"})
    prefix, found, tail = _rendered(template, turns).rpartition(_TEXT)
    if not found:
        raise UserError("the teacher's chat template leaves the last question out; use --template plain")
    return prefix, tail + cue


def _rendered(template: str, turns: list[dict[str, str]]) -> str:
    """The conversation up to the assistant's turn, without the opening token, which the tokenizer adds."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(raise_exception=_refuse, strftime_now=lambda layout: datetime(2025, 1, 1).strftime(layout))
    try:
        return environment.from_string(template).render(messages=turns, add_generation_prompt=True, bos_token="", eos_token="")
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise UserError(f"the teacher's chat template cannot be rendered ({error}); use --template plain") from error


def _refuse(reason: str) -> NoReturn:
    """The `raise_exception` that templates call to reject a conversation."""
    raise jinja2.TemplateError(reason)
