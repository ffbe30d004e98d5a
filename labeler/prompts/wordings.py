"""The wordings of a task: several ways to ask its question, which prompt variants take in turn.

What a small teacher gets wrong depends on how it is asked: answers to another question about the same label err elsewhere, so
their mean is right more often than that of as many answers to one question (docs/results.md). Every wording has words of its own
for the labels; a run stores one log-probability for each word of any wording, and of those that were not asked none.
"""

from __future__ import annotations

import msgspec

from potstill.contract.task import Task, Wording


def asked_tasks(task: Task) -> list[Task]:
    """The task in each of its wordings, its own first; none of them has further wordings."""
    return [_worded(task, wording) for wording in (Wording(), *task.wordings)]


def with_all_words(task: Task) -> Task:
    """The task whose labels have the words of all wordings: each label's own ones first, then those that a wording adds."""
    if not task.wordings:
        return task
    asked = asked_tasks(task)
    labels = []
    for place, label in enumerate(task.labels):
        words = [word for one in asked for word in one.labels[place].spellings]
        labels.append(msgspec.structs.replace(label, words=list(dict.fromkeys(words))))
    return msgspec.structs.replace(task, labels=labels)


def own_words(task: Task, asked: Task) -> tuple[int, ...]:
    """Indices of a wording's words among all words of the task. Args: asked, one of :func:`asked_tasks`."""
    places: list[int] = []
    start = 0
    for whole, own in zip(with_all_words(task).labels, asked.labels, strict=True):
        places += [start + whole.spellings.index(word) for word in own.spellings]
        start += len(whole.spellings)
    return tuple(places)


def _worded(task: Task, wording: Wording) -> Task:
    """The task in one wording."""
    labels = [
        msgspec.structs.replace(label, words=wording.words[label.name]) if label.name in wording.words else label
        for label in task.labels
    ]
    prompt = msgspec.structs.replace(task.prompt, answer=wording.answer or task.prompt.answer)
    return msgspec.structs.replace(
        task,
        question=wording.question or task.question,
        guideline=wording.guideline or task.guideline,
        labels=labels,
        prompt=prompt,
        wordings=[],
    )
