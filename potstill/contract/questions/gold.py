"""Answers that people gave to the questions of a task: in worked examples, and as the gold of a text.

An answer is the label's name (choice), the level's name or number (degree), true, false, "yes" or "no" (yesno), and a list of
names (tags). The gold of a text is an object with an answer for each question, and may leave questions out; `Text.gold` holds it
as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.questions.question import NO, YES, YES_NO, Question

Given = str | bool | int | list[str]  # an answer as it stands in a file
SEPARATOR = ";"  # between tags in a cell of a table


def answer_of(path: Path, place: str, question: Question, given: Given) -> list[str]:
    """The labels that an answer names, in output order: exactly one, but any number of tags.

    Raises:
        FormatError: at that place, if the answer does not fit the question.
    """
    names = question.label_names
    if question.kind == "tags":
        found = given.split(SEPARATOR) if isinstance(given, str) else given
        if not isinstance(found, list):
            raise FormatError(path, place, f"is {given!r}; tags are a list of names, and an empty list says that none holds")
        tags = [tag.strip() for tag in found if tag.strip()]
        for tag in tags:
            if tag not in names:
                raise FormatError(path, place, f"{tag!r} is not a tag of {question.name}; allowed: {_listed(names)}")
        return [name for name in names if name in tags]
    if question.kind == "yesno":
        given = (YES if given else NO) if isinstance(given, bool) else given
        given = given.lower() if isinstance(given, str) else given
    name = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
    if name not in names:
        allowed = f"{YES_NO[0]}, {YES_NO[1]}, true, false" if question.kind == "yesno" else _listed(names)
        raise FormatError(path, place, f"{given!r} is not an answer to {question.name}; allowed: {allowed}")
    return [str(name)]


def parse_gold(path: Path, place: str, questions: Sequence[Question], gold: str | None) -> dict[str, list[str]]:
    """The labels that the gold of a text names, by question; a question that it leaves out is absent.

    Args:
        place: of the text, for messages.
        gold: JSON, as `Text.gold` holds it; for a task of one question the bare answer, too. None: there is none.
    Raises:
        FormatError: if it is neither, or an answer does not fit its question.
    """
    if gold is None:
        return {}
    given: Any = gold
    if gold.lstrip().startswith(("{", "[")):
        try:
            given = msgspec.json.decode(gold)
        except msgspec.DecodeError:
            given = gold
    if not isinstance(given, dict):
        if len(questions) != 1:
            example = f'{{"{questions[0].name}": ...}}'
            problem = f"is {gold!r}; it must be an object with an answer for each question: {example}"
            raise FormatError(path, f"{place}: gold", problem)
        given = {questions[0].name: given}
    return answers_of(path, f"{place}: gold", questions, given)


def answers_of(path: Path, place: str, questions: Sequence[Question], given: Mapping[str, Any]) -> dict[str, list[str]]:
    """The labels that answers name, by question, in the questions' order; null and a missing key are no answer.

    Raises:
        FormatError: if a key is not a question, or an answer does not fit its question.
    """
    by_name = {question.name: question for question in questions}
    for name in given:
        if name not in by_name:
            raise FormatError(path, f"{place}.{name}", f"is not a question; the questions are {', '.join(by_name)}")
    found: dict[str, list[str]] = {}
    for name, question in by_name.items():
        answer = given.get(name)
        if answer is None:
            continue
        is_names = isinstance(answer, list) and all(isinstance(one, str) for one in answer)
        if not is_names and not isinstance(answer, str | bool | int):
            raise FormatError(path, f"{place}.{name}", f"is {answer!r}; it must be a name, true or false, or a list of names")
        found[name] = answer_of(path, f"{place}.{name}", question, answer)
    return found


def _listed(names: Sequence[str]) -> str:
    """The names, the first twenty of them."""
    return ", ".join(names[:20]) + (f", and {len(names) - 20} others" if len(names) > 20 else "")
