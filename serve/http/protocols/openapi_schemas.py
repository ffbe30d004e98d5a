"""JSON Schemas (2020-12) of requests and replies, for the OpenAPI description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from potstill.serve.http.config import Limits
from potstill.serve.runtime.tokenizer import MAX_TARGET_CHARS

Json = dict[str, Any]


@dataclass(frozen=True)
class DescribedBundle:
    """What of a bundle decides the form of its requests and replies."""

    name: str
    version: str
    target: bool  # the input is a pair of text and target
    has_sets: bool  # there are label sets
    questions: list[str]  # by name; empty: one choice without a name
    outputs: list[str]  # of the Open Inference Protocol

    @property
    def has_one_question(self) -> bool:
        """Whether `/predict` alone says which question is asked."""
        return len(self.questions) <= 1


def ref(name: str) -> Json:
    """A reference to one of REPLY_SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: list[str], properties: Json, **more: Any) -> Json:
    """The schema of an object."""
    return {"type": "object", "required": required, "properties": properties, **more}


def _list(of: Json, **more: Any) -> Json:
    """The schema of a list."""
    return {"type": "array", "items": of, **more}


_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "number"}
_PROBS: Json = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}}
_VERDICT = _object(
    ["label", "probs", "threshold", "abstain", "unfamiliar", "unfamiliarity", "answered_by"],
    {
        "label": _TEXT,
        "probs": _PROBS,
        "threshold": {"type": ["number", "null"]},
        "abstain": {"type": "boolean"},
        "unfamiliar": {"type": ["boolean", "null"]},
        "unfamiliarity": {"type": ["number", "null"]},
        "answered_by": {"enum": ["bundle", "teacher"]},
        "teacher": {"enum": ["late", "dead", "failed", "busy", "budget", "nonsense", "too long"]},
        "label_set": _list(_TEXT),
    },
)
_QUESTION_VERDICT = _object(
    ["kind", "probs", "abstain"],
    {
        "kind": {"enum": ["choice", "tags", "yesno", "degree"]},
        "probs": _PROBS,
        "abstain": {"type": "boolean"},
        "label": _TEXT,
        "threshold": {"type": ["number", "null"]},
        "tags": _list(_TEXT),
        "value": _NUMBER,
        "label_set": _list(_TEXT),
    },
    additionalProperties=False,
)
_SEVERAL_VERDICTS = _object(
    ["questions", "abstain", "unfamiliar", "unfamiliarity", "answered_by"],
    {
        "questions": {"type": "object", "additionalProperties": ref("QuestionVerdict")},
        "abstain": {"type": "boolean"},
        "unfamiliar": {"type": ["boolean", "null"]},
        "unfamiliarity": {"type": ["number", "null"]},
        "answered_by": {"const": "bundle"},
    },
    additionalProperties=False,
)
_TIMING = _object(
    ["queue_ms", "tokenize_ms", "infer_ms", "n_tokens"],
    {"queue_ms": _NUMBER, "tokenize_ms": _NUMBER, "infer_ms": _NUMBER, "n_tokens": {"type": "integer"}},
)
_TENSOR = _object(
    ["name", "shape", "datatype"],
    {
        "name": _TEXT,
        "shape": _list({"type": "integer"}),
        "datatype": _TEXT,
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
)
_PREDICTION = _object(["score", "label"], {"score": _NUMBER, "label": _TEXT})
_QUESTION = _object(
    ["name", "kind", "labels", "thresholds", "values", "sets"],
    {
        "name": _TEXT,
        "kind": {"enum": ["choice", "tags", "yesno", "degree"]},
        "labels": _list(_TEXT),
        "thresholds": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
        "values": {"type": ["array", "null"], "items": _NUMBER},
        "sets": {"type": "boolean"},
    },
)
_BUNDLE = _object(
    ["bundle", "version", "labels", "target", "thresholds", "max_tokens"],
    {
        "bundle": _TEXT,
        "version": _TEXT,
        "labels": _list(_TEXT),
        "questions": _list(_QUESTION),
        "target": {"type": "boolean"},
        "thresholds": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
        "unfamiliar": {"type": ["object", "null"]},
        "max_tokens": {"type": "integer"},
    },
)

_ANSWER: Json = {"oneOf": [ref("Verdict"), ref("SeveralVerdicts")]}
REPLY_SCHEMAS: Json = {
    "Error": _object(["error"], {"error": _TEXT}),
    "TypedError": _object(["error", "error_type"], {"error": _TEXT, "error_type": _TEXT}),
    "Status": _object(["status"], {"status": _TEXT}),
    "Verdict": _VERDICT,
    "QuestionVerdict": _QUESTION_VERDICT,
    "SeveralVerdicts": _SEVERAL_VERDICTS,
    "ClassifyReply": _object(
        ["bundle", "version"],
        {"bundle": _TEXT, "version": _TEXT, "answer": _ANSWER, "answers": _list(_ANSWER), "timing": _TIMING},
        oneOf=[{"required": ["answer"]}, {"required": ["answers"]}],
        additionalProperties=False,
    ),
    "Predictions": {"anyOf": [_list(_PREDICTION), _list(_list(_PREDICTION))]},
    "Bundles": _object(["bundles"], {"bundles": _list(_BUNDLE, minItems=1)}),
    "ServerMetadata": _object(["name", "version", "extensions"], {"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
    "ModelMetadata": _object(
        ["name", "versions", "platform", "inputs", "outputs"],
        {"name": _TEXT, "versions": _list(_TEXT), "platform": _TEXT, "inputs": _list(_TENSOR), "outputs": _list(_TENSOR)},
    ),
    "ModelReady": _object(["name", "ready"], {"name": _TEXT, "ready": {"type": "boolean"}}),
    "OpenAIError": _object(["error"], {"error": _object(["message", "type"], {"message": _TEXT, "type": _TEXT})}),
    "DecisionReply": _object(
        ["answers", "model", "usage"],
        {
            "answers": _list(_object(["type"], {"type": {"enum": ["choice", "predicate", "score", "refusal"]}})),
            "model": _TEXT,
            "usage": {},
        },
    ),
    "InferReply": _object(
        ["model_name", "model_version", "outputs"],
        {"model_name": _TEXT, "model_version": _TEXT, "id": _TEXT, "outputs": _list(_TENSOR)},
    ),
}


def classify_request(bundles: list[DescribedBundle], limits: Limits) -> Json:
    """The body of `/classify`, with targets for the bundles that have them, and without for the others."""
    text, target = _text(limits), {"type": "string", "maxLength": MAX_TARGET_CHARS}
    many = {"minItems": 1, "maxItems": limits.max_texts}
    options: Json = {
        "timing": {"type": "boolean"},
        "timeout_ms": {"type": "number", "minimum": limits.min_timeout_ms, "maximum": limits.max_timeout_ms},
    }
    if any(one.has_sets for one in bundles):
        options["sets"] = {"type": "boolean"}
    else:
        options["sets"] = {"const": False}
    kinds = {one.target for one in bundles}
    shapes = []
    for with_target in sorted(kinds):
        single, several = {"text": text}, {"texts": _list(text, **many)}
        if with_target:
            single["target"], several["targets"] = target, _list(target, **many)
        shapes += [_object(list(one), {**one, **options}, additionalProperties=False) for one in (single, several)]
    return {"oneOf": shapes}


def predict_request(bundles: list[DescribedBundle], limits: Limits) -> Json:
    """The body of `/predict`: pairs for bundles with targets, single texts for the others."""
    text = {**_text(limits), "minLength": 1}
    target = {"type": "string", "maxLength": MAX_TARGET_CHARS}
    inputs: list[Json] = []
    for with_target in sorted({one.target for one in bundles}):
        fields = [text, target] if with_target else [text]
        row = {"type": "array", "prefixItems": fields, "items": False, "minItems": len(fields), "maxItems": len(fields)}
        inputs += [row, _list(row, minItems=1, maxItems=limits.max_texts), *([] if with_target else [text])]
    options = {
        "raw_scores": {"type": "boolean"},
        "truncate": {"type": ["boolean", "null"]},
        "truncation_direction": {"enum": ["left", "right", "Left", "Right"]},
    }
    return _object(["inputs"], {"inputs": {"anyOf": inputs}, **options})


def decision_request(limits: Limits) -> Json:
    """The body of `/v1/decisions`; a bundle with targets refuses every one."""
    instructions, name = {"anyOf": [_TEXT, {"type": "array"}]}, {"name": {"type": ["string", "null"]}}
    message = _object(["role", "content"], {"role": {"const": "user"}, "content": _text(limits)})
    choice = _object(["value"], {"value": {"anyOf": [_TEXT, {"type": "boolean"}]}})
    asked: list[Json] = [
        _object(
            ["type", "instructions", "choices"],
            {
                "type": {"const": "choice"},
                "instructions": instructions,
                "choices": _list(choice, minItems=2, maxItems=255, uniqueItems=True),
                **name,
            },
        ),
        _object(["type", "instructions"], {"type": {"const": "predicate"}, "instructions": instructions, **name}),
        _object(
            ["type", "instructions", "levels"],
            {
                "type": {"const": "score"},
                "instructions": instructions,
                "levels": _list(_object(["label"], {"label": _TEXT}), minItems=2),
                **name,
            },
        ),
    ]
    return _object(
        ["input", "model", "questions"],
        {
            "input": {"anyOf": [_text(limits), _list(message, minItems=1, maxItems=1)]},
            "model": _TEXT,
            "questions": _list({"anyOf": asked}, minItems=1, maxItems=400),
        },
    )


def infer_request(bundles: list[DescribedBundle], limits: Limits, outputs: list[str]) -> Json:
    """The JSON part of `infer`: the tensor `text`, and `target` for bundles with targets."""
    shapes = []
    for with_target in sorted({one.target for one in bundles}):
        names = ["text", "target"] if with_target else ["text"]
        tensors = [_input(name, limits) for name in names]
        shapes.append({"type": "array", "prefixItems": tensors, "items": False, "minItems": len(names), "maxItems": len(names)})
    output = _object(
        ["name"], {"name": {"enum": outputs}, "parameters": _object([], {"binary_data": {"type": ["boolean", "null"]}})}
    )
    return _object(
        ["inputs"],
        {
            "id": _TEXT,
            "inputs": {"anyOf": shapes},
            "outputs": _list(output, maxItems=len(outputs)),
            "parameters": _object(
                [],
                {
                    "timeout": {"type": "number", "minimum": limits.min_timeout_ms * 1000, "maximum": limits.max_timeout_ms * 1000},
                    "binary_data_output": {"type": ["boolean", "null"]},
                },
            ),
        },
    )


def _input(name: str, limits: Limits) -> Json:
    """A tensor of strings. A schema cannot say that its shape must fit the number of strings."""
    data = _list(_text(limits) if name == "text" else _TEXT, minItems=1, maxItems=limits.max_texts)
    shape = _list({"type": "integer", "minimum": 1, "maximum": limits.max_texts}, minItems=1, maxItems=2)
    properties = {
        "name": {"const": name},
        "datatype": {"const": "BYTES"},
        "shape": shape,
        "data": data,
        "parameters": {"type": "object"},
    }
    return _object(["name", "datatype", "shape", "data"], properties)


def _text(limits: Limits) -> Json:
    """The schema of a text."""
    return {"type": "string", "maxLength": limits.max_chars}
