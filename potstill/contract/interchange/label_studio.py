"""Label Studio: read people's annotations, and write soft labels as tasks with a prediction.

Version: Label Studio 1.23, its export format JSON, and its "Basic Label Studio JSON format" with predictions for import. Source:
labelstud.io/guide/task_format, /guide/predictions and label_studio/tasks/validation.py. The output was checked with
`LabelInterface` of label-studio-sdk 2.1.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import decode
from potstill.contract.interchange.annotation import (
    NOT_ANNOTATED,
    QUESTION,
    SET_ASIDE,
    SEVERAL,
    AnnotatedText,
    AnnotationGuide,
    gold_question,
    text_field,
)
from potstill.contract.soft_label import SoftLabel


class _Result(msgspec.Struct, frozen=True):
    """One result of an annotation; relations between results have no value."""

    type: str = ""
    from_name: str = ""
    value: dict[str, Any] | None = None


class _Annotation(msgspec.Struct, frozen=True):
    """One person's annotation of a task."""

    result: list[_Result] | None = None
    was_cancelled: bool | None = None
    ground_truth: bool | None = None


class _Task(msgspec.Struct, frozen=True):
    """The parts of a task that matter here; others are ignored."""

    data: dict[str, Any]
    annotations: list[_Annotation] | None = None


def is_task(row: Any) -> bool:
    """True if a JSON value has the shape of a task."""
    return isinstance(row, dict) and isinstance(row.get("data"), dict)


def read(path: Path, rows: list[tuple[str, Any]]) -> Iterator[tuple[str, AnnotatedText]]:
    """Read the texts of tasks with the labels that people chose.

    Cancelled annotations, predictions and drafts do not count. If a task has annotations marked as ground truth, only those count.

    Args:
        path: the file, for errors.
        rows: (place, JSON value) of each task.
    Raises:
        FormatError: if a task is malformed, or the field with the text or the question with the gold label is ambiguous.
    """
    tasks = [(place, decode.convert(path, row, _Task, place)) for place, row in rows]
    names = {result.from_name for _, task in tasks for given in task.annotations or [] for result in _choices(given)}
    question = gold_question(names)
    if question is None:
        problem = f"use several controls ({', '.join(sorted(names))}); name the one with the gold label {QUESTION!r}"
        raise FormatError(path, "annotations", problem)
    for place, task in tasks:
        yield place, _annotated(path, place, task, question)


def tasks(rows: list[SoftLabel], agent: str) -> bytes:
    """Encode soft labels as tasks to import, each with its most probable label as prediction and the probability as score.

    Args:
        rows: the soft labels.
        agent: the labeller, for example teacher and method; the predictions' `model_version`.
    """
    return (
        msgspec.json.format(msgspec.json.encode([_task(row, agent, number) for number, row in enumerate(rows, 1)]), indent=1)
        + b"\n"
    )


def config(guide: AnnotationGuide) -> str:
    """The labelling configuration (XML) of a project for these tasks: question, target if texts have one, text, choices."""
    lines = ["<View>", f"  <Header value={_attribute(guide.question)}/>"]
    if guide.target:
        lines.append('  <Header size="5" value="$target"/>')
    lines.append('  <Text name="text" value="$text"/>')
    lines.append(f'  <Choices name="{QUESTION}" toName="text" choice="single" required="true" showInline="true">')
    for name, meaning in guide.labels.items():
        hint = f" hint={_attribute(meaning)}" if meaning else ""
        lines.append(f"    <Choice value={_quoted(name)}{hint}/>")
    return "\n".join([*lines, "  </Choices>", "</View>", ""])


def _annotated(path: Path, place: str, task: _Task, question: str) -> AnnotatedText:
    """Extract one task's text and answers."""
    name = text_field(task.data)
    if name is None:
        found = ", ".join(task.data) or "nothing"
        raise FormatError(path, f"{place}: data", f"has no field 'text', and no other field is clearly the text; found: {found}")
    identity, target = task.data.get("id", ""), task.data.get("target")
    if not isinstance(identity, str | int) or not isinstance(target, str | None):
        raise FormatError(path, f"{place}: data", "'id' and 'target' must be text; correct or remove them")
    given = task.annotations or []
    counted = [annotation for annotation in given if not annotation.was_cancelled]
    if any(annotation.ground_truth for annotation in counted):
        counted = [annotation for annotation in counted if annotation.ground_truth]
    answers: list[str] = []
    otherwise = SET_ASIDE if given and not counted else NOT_ANNOTATED
    for annotation in counted:
        chosen = [label for result in _choices(annotation, question) for label in _labels(path, place, result)]
        if len(chosen) == 1:
            answers += chosen
        elif chosen:
            otherwise = SEVERAL
    return AnnotatedText(task.data[name], str(identity), target, tuple(answers), otherwise)


def _choices(annotation: _Annotation, question: str | None = None) -> list[_Result]:
    """The results of type choices, of one control or of all."""
    return [r for r in annotation.result or [] if r.type == "choices" and question in (None, r.from_name)]


def _labels(path: Path, place: str, result: _Result) -> list[str]:
    """The labels that one result chose; raises FormatError if they are not a list of names."""
    labels = (result.value or {}).get("choices")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise FormatError(path, f"{place}: annotations", f"a choice of {result.from_name!r} has no list of labels (value.choices)")
    return labels


def _task(row: SoftLabel, agent: str, number: int) -> dict[str, Any]:
    """One task with a prediction; `meta` has the whole distribution, for readers of the file."""
    best = max(row.probs, key=row.probs.__getitem__)
    value = {"choices": [best]}
    result = {"id": f"suggestion-{number}", "from_name": QUESTION, "to_name": "text", "type": "choices", "value": value}
    return {
        "data": {"id": row.id, "text": row.text, **({"target": row.target} if row.target else {})},
        "meta": {"probs": row.probs, "agreement": row.agreement, "entropy": row.entropy},
        "predictions": [{"model_version": agent, "score": row.probs[best], "result": [result]}],
    }


def _attribute(text: str) -> str:
    """A quoted attribute. Label Studio reads `$word` as a field of the task and has no escape, so a look-alike replaces it."""
    return _quoted(text.replace("$", "\N{FULLWIDTH DOLLAR SIGN}"))


def _quoted(value: str) -> str:
    """A value of an attribute of XML, in quotes; line ends and tabs would be read as spaces, so they are written by number.

    `xml.sax.saxutils.quoteattr` does the same, and loads an HTTP client with TLS.
    """
    return '"' + "".join(f"&#{ord(one)};" if one in "\n\r\t" else one for one in escape(value)) + '"'
