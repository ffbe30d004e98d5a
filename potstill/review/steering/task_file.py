"""Additions to a `task.toml` that keep its comments, its layout and everything else in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic, decode, digest
from potstill.contract.questions.gold import Given
from potstill.contract.questions.questionnaire import AnyTask, load_any_task
from potstill.review.people.answers import ONLY


@dataclass(frozen=True)
class NewTerm:
    """A term to explain: an entry of the task's knowledge."""

    term: str
    meaning: str


@dataclass(frozen=True)
class NewExample:
    """A text to show as a worked example."""

    text: str
    answers: Mapping[str, Given]  # by question, as people answered
    rationales: Mapping[str, str] = field(default_factory=dict)  # by question; left out where empty
    target: str | None = None


Addition = NewTerm | NewExample


@dataclass(frozen=True)
class ChangedTask:
    """A task file with an addition that is not written yet."""

    before: str  # SHA-256 of the file that it was made from
    content: str  # of the whole file
    added: str  # the lines that are new
    task: AnyTask


def with_addition(path: Path, addition: Addition) -> ChangedTask:
    """The task file with one more worked example or knowledge entry at the end of those it has, checked as any task is.

    Raises:
        FormatError: if the file cannot be read, or the task would not be valid, naming the field.
    """
    data = decode.read_bytes(path)
    try:
        document = tomlkit.parse(decode.utf8(path, data))
    except TOMLKitError as error:
        raise FormatError(path, "", f"is not TOML ({error}); repair it first") from error
    name, entry = ("knowledge", _term(addition)) if isinstance(addition, NewTerm) else ("examples", _example(addition, document))
    known = document.get(name)
    if known is None:
        tables = tomlkit.aot()
        tables.append(entry)
        document.append(name, tables)
    elif isinstance(known, AoT):
        known.append(entry)
    else:
        known.append(entry.value)  # written as a list in one line
    content = tomlkit.dumps(document)
    alone = tomlkit.document()
    only = tomlkit.aot()
    only.append(entry)
    alone.append(name, only)
    return ChangedTask(digest.of_bytes(data), content, tomlkit.dumps(alone).strip(), _checked(path, content))


def write_change(path: Path, change: ChangedTask) -> None:
    """Write a changed task, whole or not at all.

    Raises:
        UserError: if somebody has changed the file since, or it cannot be written.
    """
    if digest.of_bytes(decode.read_bytes(path)) != change.before:
        raise UserError(f"{path}: was changed in the meantime, so nothing was written; go back and look at the change again")
    atomic.write_file(path, change.content.encode())


def _term(addition: NewTerm) -> Table:
    """A knowledge entry as a table."""
    table = tomlkit.table()
    table.add("term", addition.term.strip())
    table.add("meaning", addition.meaning.strip())
    return table


def _example(addition: NewExample, document: Mapping[str, Any]) -> Table:
    """A worked example as a table, in the file's format."""
    table = tomlkit.table()
    table.add("text", " ".join(addition.text.split()))
    if addition.target:
        table.add("target", addition.target)
    rationales = {name: " ".join(words.split()) for name, words in addition.rationales.items() if words.strip()}
    if document.get("format") == 1:
        if rationales:
            table.add("rationale", rationales[ONLY])
        table.add("label", str(addition.answers[ONLY]))
        return table
    for key, values in (("answers", dict(addition.answers)), ("rationales", rationales)):
        if values:
            inline = tomlkit.inline_table()
            inline.update(values)
            table.add(key, inline)
    return table


def _checked(path: Path, content: str) -> AnyTask:
    """The task that the content is; raises FormatError with the real file's name."""
    with atomic.scratch("potstill-task") as folder:
        copy = folder / path.name
        copy.write_text(content, encoding="utf-8")
        try:
            return load_any_task(copy)
        except FormatError as error:
            raise FormatError(path, error.place, error.problem) from error
