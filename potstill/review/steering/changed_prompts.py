"""Which texts a teacher would be asked about in other words, once a task has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from potstill.contract.questions.questionnaire import AnyTask
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.prompts.plain import knowledge_in


@dataclass(frozen=True)
class ChangedPrompts:
    """The texts whose prompts differ."""

    ids: list[str]
    everywhere: str = ""  # why all of them do; empty: only some do, or none


def changed_prompts(old: AnyTask, new: AnyTask, texts: Mapping[str, Text]) -> ChangedPrompts:
    """Compare what two versions of a task say about each text.

    A knowledge entry stands in the prompts of the texts that hold its term, and of all texts if a worked example holds it. Anything
    else that changes stands in the part that all prompts share.

    Args:
        texts: by id.
    """
    if old == new:
        return ChangedPrompts([])
    if type(old) is not type(new) or msgspec.structs.replace(new, knowledge=old.knowledge) != old:
        return ChangedPrompts(list(texts), "what all prompts share has changed")
    before, after = _terms(old), _terms(new)
    for example in new.examples:
        if knowledge_in(before, example.text) != knowledge_in(after, example.text):
            return ChangedPrompts(list(texts), "a worked example holds the term, and worked examples stand in all prompts")
    appended = after.knowledge[: len(before.knowledge)] == before.knowledge
    looked_at = after.knowledge[len(before.knowledge) :] if appended else before.knowledge + after.knowledge
    probe = msgspec.structs.replace(before, knowledge=looked_at)
    ids = [
        text_id
        for text_id, text in texts.items()
        if knowledge_in(probe, text.text) and knowledge_in(before, text.text) != knowledge_in(after, text.text)
    ]
    return ChangedPrompts(ids)


def _terms(task: AnyTask) -> Task:
    """What decides which notes a text gets: the knowledge, and how much of a text is seen."""
    return Task(format=1, name=task.name, question="", labels=[], knowledge=task.knowledge, input=task.input)
