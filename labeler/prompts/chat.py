"""The prompt as a conversation in the model's own chat template: worked examples are earlier turns, the text is the last question.

The template comes from the teacher's file and is rendered in a sandbox. The conversation is split at the last text: what stands
before it is the prefix that all texts share, what follows it is the tail.
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

_TEXT = "@@the text@@"


def conversation(task: Task, variant: ExampleSelection, mode: Mode, *, guideline: bool, template: str) -> tuple[str, str]:
    """(prefix, tail) around the text, the tail with the cue that the teacher continues.

    Raises:
        UserError: if there is no template, or it cannot be rendered.
    """
    if not template:
        raise UserError("the teacher has no chat template of its own; use --template plain")
    head = plain.head(task, guideline=guideline)
    cue = plain.cue(task, mode)
    turns = []
    for i, example in enumerate(variant.examples):
        asked = plain.told(task, example.text, example.target)
        turns.append({"role": "user", "content": asked if i else f"{head}\n\n{asked}"})
        turns.append({"role": "assistant", "content": cue + plain.answer(task, example, mode)})
    turns.append({"role": "user", "content": _TEXT if turns else f"{head}\n\n{_TEXT}"})
    prefix, found, tail = _rendered(template, turns).rpartition(_TEXT)
    if not found:
        raise UserError("the teacher's chat template leaves the last question out; use --template plain")
    return prefix, tail + cue


def _rendered(template: str, turns: list[dict[str, str]]) -> str:
    """The conversation up to the assistant's turn. The opening token is left out: the tokenizer puts it first."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(raise_exception=_refuse, strftime_now=lambda layout: datetime(2025, 1, 1).strftime(layout))
    try:
        return environment.from_string(template).render(messages=turns, add_generation_prompt=True, bos_token="", eos_token="")
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise UserError(f"the teacher's chat template cannot be rendered ({error}); use --template plain") from error


def _refuse(reason: str) -> NoReturn:
    """What templates call when they do not like a conversation."""
    raise jinja2.TemplateError(reason)
