"""Other wordings of a task, for tuning to compare: files of a person, or guidelines that the teacher writes in other words.

A wording that the teacher wrote is kept as a task file, too, so that it can be read, mended, and used like any other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import tomlkit

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic, decode
from potstill.contract.task import Task, load_task
from potstill.labeler.prompts import plain
from potstill.labeler.teacher import PathRequest, Teacher, TeacherPath

OWN = "the task as given"
CUE = "Instructions:"
AGAIN = "The same instructions in other words:"
N_SAMPLED = 3  # answers for each rewrite that is wanted; some repeat each other, or say nothing
MAX_TOKENS = 90
TEMPERATURE = 0.7
MIN_WORDS, MAX_CHARS = 5, 600  # of a guideline


@dataclass(frozen=True)
class WordedTask:
    """A task that asks the same in another way."""

    name: str  # of its file
    task: Task
    file: Path


def wordings_of(task: Task, files: Sequence[str | Path]) -> list[WordedTask]:
    """The wordings in task files.

    Raises:
        FormatError: if a file is no task, or its labels or targets are others.
        UserError: if two files have the same name, by which the table would tell them apart.
    """
    found: list[WordedTask] = []
    for file in map(Path, files):
        other = load_task(file)
        if other.label_names != task.label_names:
            wanted, own = ", ".join(task.label_names), ", ".join(other.label_names)
            raise FormatError(file, "labels", f"are {own}; another wording has the same labels in the same order: {wanted}")
        if other.input.target != task.input.target:
            raise FormatError(
                file, "input.target", f"is {str(other.input.target).lower()}; in another wording it is as in the first"
            )
        if file.name in [one.name for one in found]:
            raise UserError(f"{file}: another wording is called {file.name}, too; rename one of the two")
        found.append(WordedTask(file.name, other, file))
    return found


def rewritten(task: Task, source: Path | None, out: Path, teacher: Teacher, n: int, seed: int = 0) -> list[WordedTask]:
    """Up to ``n`` wordings whose guideline the teacher wrote, as `rewrite_1.toml` and so on in ``out``; those there are kept.

    Args:
        source: the task's file, whose comments and layout the new ones keep; None: there is none.
        n: at least 1; there may be fewer, where the teacher repeats itself or writes nothing of use.
        seed: of the sampled answers.
    Raises:
        FormatError: if a file of an earlier call is damaged.
        UserError: if the teacher fails, or the disk refuses.
    """
    files = [out / f"rewrite_{number}.toml" for number in range(1, n + 1)]
    kept = [file for file in files if file.is_file() and _is_rewrite(task, load_task(file))]
    if not kept:
        for file, guideline in zip(files, written_guidelines(task, teacher, n, seed), strict=False):
            atomic.write_file(file, _with_guideline(task, source, guideline).encode())
            kept.append(file)
    return [WordedTask(file.name, load_task(file), file) for file in kept]


def written_guidelines(task: Task, teacher: Teacher, n: int, seed: int = 0) -> list[str]:
    """Up to ``n`` guidelines that the teacher writes, none like the task's own. Raises UserError if it fails."""
    spec = plain.written_after(task, AGAIN, TEMPERATURE, MAX_TOKENS)
    request = PathRequest("guideline", f"{CUE} {_spoken(task)}\n{AGAIN}", tuple(range(N_SAMPLED * n)))
    paths = [path for path in teacher.answer(_prefix(task), 0, [request], spec, seed) if isinstance(path, TeacherPath)]
    own = " ".join(task.guideline.split()).lower()
    found: dict[str, str] = {}
    for path in sorted(paths, key=lambda one: one.path):
        guideline = whole_sentences(path.rationale)
        if len(guideline.split()) >= MIN_WORDS and guideline.lower() != own:
            found.setdefault(guideline.lower(), guideline)
    return list(found.values())[:n]


def whole_sentences(answer: str) -> str:
    """An answer on one line, without quotes around it or a sentence that is cut off; empty if it has no whole sentence."""
    line = " ".join(answer.split()).strip("\"'“”").strip()[:MAX_CHARS]
    ends = [found.end() for found in re.finditer(r"[.!?](?=\s|$)|[。！？]", line)]
    return line[: ends[-1]] if ends else ""


def _prefix(task: Task) -> str:
    """The question, its answers, and worked examples with their labels: what the instructions are about."""
    shown = [plain.worked_example(task, example, "direct") for example in task.examples[: 2 * len(task.labels)]]
    return "\n\n".join((plain.head(task, guideline=False), *shown)) + "\n\n"


def _spoken(task: Task) -> str:
    """The guideline, or where there is none the question and what each label means, which is all that is known."""
    meanings = "; ".join(f"{label.spellings[0]} if {label.meaning}" for label in task.labels if label.meaning)
    return " ".join(task.guideline.split()) or f"{task.question} Answer {meanings}."


def _is_rewrite(task: Task, other: Task) -> bool:
    """Whether a task differs by its guideline alone; one of an earlier form of the task does not."""
    return msgspec.structs.replace(other, guideline=task.guideline) == task


def _with_guideline(task: Task, source: Path | None, guideline: str) -> str:
    """A task file with another guideline."""
    if source is None:
        plainly = msgspec.to_builtins(msgspec.structs.replace(task, guideline=guideline))
        return tomlkit.dumps({name: value for name, value in plainly.items() if value is not None})
    document = tomlkit.parse(decode.utf8(source, decode.read_bytes(source)))
    document["guideline"] = guideline  # a new one is put before the first table
    return tomlkit.dumps(document)
