"""Argilla: read people's answers, and write soft labels as records with a suggestion.

Version: Argilla 2.8. Records are read as `dataset.records.to_json(FILE)` or `to_list()` write them (nested), and as
`to_list(flatten=True)` does (`label.responses`, `label.responses.status`, ...). Only the flat form says which answers were
submitted and which were drafts or discarded; in the nested form, the record's own status says whether enough were submitted.
Source: the package's `records/_resource.py`, `records/_io/_generic.py`, `settings/_resource.py`, and the server's
`contexts/distribution.py` (a record is `completed` once as many answers are submitted as the dataset asks for) and
`api/schemas/v1/suggestions.py` (agents).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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

_RESPONSES, _STATUS = ".responses", ".responses.status"
_OWN = ("id", "status", "_server_id")  # keys of a flat record that are not fields
_MAX_AGENT = 200  # characters


class _Response(msgspec.Struct, frozen=True):
    """One person's answer to one question; `to_json` omits the status."""

    value: Any = None
    status: str | None = None


class _Record(msgspec.Struct, frozen=True):
    """The parts of a record that matter here; others are ignored."""

    fields: dict[str, Any]
    id: str | None = None
    status: str | None = None  # of the record: pending or completed
    responses: dict[str, list[_Response]] | None = None


def is_record(row: Any) -> bool:
    """True if a JSON value has the shape of a record, nested or flat."""
    return isinstance(row, dict) and (isinstance(row.get("fields"), dict) or "_server_id" in row)


def read(path: Path, rows: list[tuple[str, Any]]) -> Iterator[tuple[str, AnnotatedText]]:
    """Read the texts of records with the labels that people submitted. Suggestions, drafts and discarded answers do not count.

    Args:
        path: the file, for errors.
        rows: (place, JSON value) of each record.
    Raises:
        FormatError: if a record is malformed, or the field with the text or the question with the gold label is ambiguous.
    """
    nested = [(place, _nested(path, place, row) if isinstance(row, dict) else row) for place, row in rows]
    records = [(place, decode.convert(path, row, _Record, place)) for place, row in nested]
    names = {name for _, record in records for name, responses in (record.responses or {}).items() if responses}
    question = gold_question(names)
    if question is None:
        problem = f"answer several questions ({', '.join(sorted(names))}); name the one with the gold label {QUESTION!r}"
        raise FormatError(path, "responses", problem)
    for place, record in records:
        yield place, _annotated(path, place, record, question)


def records(rows: list[SoftLabel], agent: str) -> bytes:
    """Encode soft labels as records for `dataset.records.from_json`, each with its most probable label as suggestion.

    Args:
        rows: the soft labels.
        agent: the labeller, for example teacher and method; characters that the server refuses become underscores.
    """
    agent = re.sub(r"[^a-zA-Z0-9\-_:./ ]", "_", agent)[:_MAX_AGENT]
    return msgspec.json.format(msgspec.json.encode([_record(row, agent) for row in rows]), indent=1) + b"\n"


def settings(guide: AnnotationGuide) -> bytes:
    """Encode the settings of a dataset for these records, for `rg.Settings.from_json`: fields, a question, metadata to sort by."""
    fields = [_field("text"), *([_field("target")] if guide.target else [])]
    options = [{"value": name, "text": name} for name in guide.labels]
    meanings = [f"{name}: {meaning}" for name, meaning in guide.labels.items() if meaning]
    question = {
        "name": QUESTION,
        "title": guide.question,
        "description": "\n".join(meanings) or None,
        "required": True,
        "settings": {"type": "label_selection", "options": options, "visible_options": len(options) if len(options) > 2 else None},
    }
    measures = [{"name": name, "title": name, "settings": {"type": "float"}} for name in ("entropy", "agreement")]
    whole = {
        "guidelines": guide.guideline or None,
        "questions": [question],
        "fields": fields,
        "vectors": [],
        "metadata": measures,
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def _nested(path: Path, place: str, row: dict[str, Any]) -> dict[str, Any]:
    """Convert a flat record to the nested form; a nested one is returned unchanged."""
    if "fields" in row:
        return row
    responses: dict[str, list[dict[str, Any]]] = {}
    for key, values in row.items():
        if not key.endswith(_RESPONSES) or values is None:
            continue
        statuses = row.get(key.removesuffix(_RESPONSES) + _STATUS)
        if not isinstance(values, list) or not isinstance(statuses, list) or len(values) != len(statuses):
            raise FormatError(path, f"{place}: {key}", f"and {key}.status must be lists of equal length; export the records again")
        pairs = zip(values, statuses, strict=True)
        responses[key.removesuffix(_RESPONSES)] = [{"value": value, "status": status} for value, status in pairs]
    # in the flat form, metadata cannot be told apart from fields
    fields = {key: value for key, value in row.items() if isinstance(value, str) and key not in _OWN and ".suggestion" not in key}
    return {"id": row.get("id"), "status": row.get("status"), "fields": fields, "responses": responses}


def _annotated(path: Path, place: str, record: _Record, question: str) -> AnnotatedText:
    """Extract one record's text and answers."""
    name = text_field(record.fields)
    if name is None:
        found = ", ".join(record.fields) or "nothing"
        raise FormatError(path, f"{place}: fields", f"has no field 'text', and no other field is clearly the text; found: {found}")
    target = record.fields.get("target")
    if not isinstance(target, str | None):
        raise FormatError(path, f"{place}: fields.target", "must be text; correct or remove it")
    given = [response for response in (record.responses or {}).get(question, []) if response.value is not None]
    unsure = any(response.status is None for response in given)
    counted = [response.value for response in given if _submitted(response, record)]
    otherwise = SET_ASIDE if given and not counted else NOT_ANNOTATED
    answers = tuple(value for value in counted if isinstance(value, str))
    if len(answers) < len(counted):
        if not all(isinstance(value, list) for value in counted if not isinstance(value, str)):
            raise FormatError(path, f"{place}: responses", f"to {question!r} must be labels; make it a label question")
        otherwise = SEVERAL
    return AnnotatedText(record.fields[name], record.id or "", target, answers, otherwise, unsure and bool(answers))


def _submitted(response: _Response, record: _Record) -> bool:
    """True if an answer was submitted; without a status of its own, if the record is completed."""
    return response.status == "submitted" if response.status is not None else record.status in ("completed", None)


def _record(row: SoftLabel, agent: str) -> dict[str, Any]:
    """One record in the nested form."""
    best = max(row.probs, key=row.probs.__getitem__)
    return {
        "id": row.id,
        "fields": {"text": row.text, **({"target": row.target} if row.target else {})},
        "metadata": {"entropy": row.entropy, "agreement": row.agreement},
        "suggestions": {QUESTION: {"value": best, "score": min(1.0, row.probs[best]), "agent": agent}},
        "responses": {},
        "vectors": {},
    }


def _field(name: str) -> dict[str, Any]:
    """A field shown as plain text, not as Markdown."""
    return {"name": name, "title": name, "required": True, "settings": {"type": "text", "use_markdown": False}}
