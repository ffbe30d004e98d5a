"""The reference of the HTTP interface, `docs/http.md`, from the server's own OpenAPI description.

The described bundles are called NAME; QUESTION is a question of one that has several.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from potstill.serve.http.config import Limits
from potstill.serve.http.protocols.open_inference import ALONE
from potstill.serve.http.protocols.openapi import openapi_document
from potstill.serve.http.protocols.openapi_schemas import DescribedBundle

Json = dict[str, Any]
NAME, QUESTION = "NAME", "QUESTION"
HEAD = f"""<!-- Written by `make docs` from the server's own description; do not edit. -->

# The HTTP interface

Every path of `potstill serve`. A running server describes itself at `/openapi.json` (OpenAPI 3.1), for exactly the bundles it
serves. Here `{NAME}` stands for the name of a bundle, and `{QUESTION}` for one of its questions, if it has several. Paths without
`{NAME}` ask the first bundle. How to start a server, and examples with curl, are in [serving](serving.md).

Bodies are JSON in UTF-8, and may be compressed with gzip or deflate. The limits are those of a server without options. A field
with `?` may be left out. Where keys are required, send `Authorization: Bearer KEY` or `X-API-Key: KEY`; paths marked "open" never
ask for one. What answers GET answers HEAD, too.

The bodies are those of a bundle without targets. If the task asks about a target, `/classify` needs `target` beside `text`, or
`targets` beside `texts`; `/predict` takes pairs `[text, target]`; and `infer` needs a second tensor, `target`.
"""
REPLIES = """
## Replies

What the paths above answer with, by name.
"""
ERRORS = """
## Errors

| status | meaning |
| --- | --- |
"""
BOUNDS = {
    "array": ("minItems", "maxItems", "entries"),
    "string": ("minLength", "maxLength", "characters"),
    "number": ("minimum", "maximum", ""),
    "integer": ("minimum", "maximum", ""),
}


def http_reference() -> str:
    """The whole page, as Markdown."""
    document = _document()
    operations = [
        (method.upper(), path, one)
        for path, methods in document["paths"].items()
        for method, one in methods.items()
        if method != "parameters"
    ]
    rows = [f"| {method} | {_link(method, path)} | {_summary(one)} |" for method, path, one in operations]
    parts = [HEAD, "\n", "\n".join(["| method | path | what it does |", "| --- | --- | --- |", *rows]), "\n"]
    errors: dict[str, str] = {}
    shown: dict[str, str] = {}
    for method, path, one in operations:
        parts += _section(method, path, one, document["paths"][path].get("parameters", []), shown)
        errors |= {
            status: reply["description"] for status, reply in one["responses"].items() if status != "200" and status not in errors
        }
    parts.append(REPLIES)
    parts += [f"\n### {name}\n\n{_block(schema)}" for name, schema in document["components"]["schemas"].items()]
    parts += [ERRORS, *[f"| {status} | {errors[status]} |\n" for status in sorted(errors)]]
    return "".join(parts)


def _document() -> Json:
    """The description of a server with a bundle of one choice, and the paths that several questions add."""
    of_both = [
        openapi_document([DescribedBundle(NAME, "", False, True, questions, list(ALONE))], Limits(), "", with_keys=True)
        for questions in ([], [QUESTION])
    ]
    paths = {path: one for path, one in of_both[1]["paths"].items() if QUESTION in path}
    return {**of_both[0], "paths": {**of_both[0]["paths"], **paths}}


def _link(method: str, path: str) -> str:
    """A path that leads to its section; a path without letters has no name as a place on the page."""
    letters = re.sub(r"[^\w-]", "", path).lower()
    return f"[`{path}`](#{method.lower()}-{letters})" if letters else f"`{path}`"


def _summary(one: Json) -> str:
    """What an operation does, and whether it is open to all."""
    words = str(one["summary"]).replace(f" with {NAME}", f" with the bundle {NAME}")
    return f"{words} Open." if one.get("security") == [] else words


def _section(method: str, path: str, one: Json, of_path: list[Json], shown: dict[str, str]) -> Iterator[str]:
    """An operation: what it takes, what it gives, and its errors. Args: shown, by request body the operation that has shown it."""
    yield f"\n## {method} {path}\n\n{_summary(one)}\n"
    for row in [*of_path, *one.get("parameters", [])]:
        about = row.get("description") or "of the bundle, as in its metadata."
        yield f"\n- {row['in']} `{row['name']}`: {about}"
    if of_path or one.get("parameters"):
        yield "\n"
    if "requestBody" in one:
        ((kind, body),) = one["requestBody"]["content"].items()
        block = _block(body["schema"])
        yield f"\nTakes {kind}, as {shown[block]}.\n" if block in shown else f"\nTakes {kind}:\n\n{block}"
        if _link(method, path).startswith("["):
            shown.setdefault(block, f"{method} {_link(method, path)}")
    replies = one["responses"]["200"].get("content", {})
    for kind, body in replies.items():
        schema = body.get("schema", {})
        name = schema.get("$ref", "").rpartition("/")[2]
        yield f"\nGives {kind}" + (f": [{name}](#{name.lower()}).\n" if name else ".\n")
    for name, header in one["responses"]["200"].get("headers", {}).items():
        yield f"\nHeader `{name}`: {header['description']}\n"
    failed = _errors(one)
    if failed:
        yield f"\n{failed}\n"


def _errors(one: Json) -> str:
    """The error statuses, by the form of their bodies."""
    by_form: dict[str, list[str]] = {}
    for status, reply in one["responses"].items():
        if status != "200":
            form = reply["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            by_form.setdefault(form, []).append(status)
    found = [f"{', '.join(sorted(statuses))} as [{form}](#{form.lower()})" for form, statuses in by_form.items()]
    return f"[Errors](#errors): {'; '.join(found)}." if found else ""


def _block(schema: Json) -> str:
    """A schema as a block of text."""
    return f"```text\n{_form(schema)}\n```\n"


def _form(schema: Json, indent: str = "") -> str:
    """A schema as JSON with types in place of values."""
    if "properties" in schema:
        return _object(schema, indent)
    for key in ("oneOf", "anyOf"):
        if key in schema:
            forms = [_form(one, indent) for one in schema[key]]
            return " or ".join(forms) if "\n" not in "".join(forms) else f"\n{indent}or ".join(forms)
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    kind = schema.get("type", "any value")
    if isinstance(kind, list):
        return " | ".join(kind)
    if kind == "array" and "prefixItems" in schema:
        return f"[{', '.join(_form(one, indent) for one in schema['prefixItems'])}]"
    if kind == "array":
        return f"[{_form(schema.get('items') or {}, indent)}, ...]{_bounds(schema)}"
    if isinstance(schema.get("additionalProperties"), dict):
        return "{name: " + _form(schema["additionalProperties"], indent) + ", ...}"
    return f"{kind}{_bounds(schema)}"


def _object(schema: Json, indent: str) -> str:
    """An object, a field on each line; those that may be left out have a question mark."""
    inner = indent + "  "
    required = schema.get("required", [])
    rows = [f'{inner}"{name}"{"" if name in required else "?"}: {_form(one, inner)}' for name, one in schema["properties"].items()]
    either = [name for one in schema.get("oneOf", []) for name in one["required"]]
    note = f"   with exactly one of: {', '.join(either)}" if either else ""
    return "\n".join(["{", *rows, indent + "}" + note])


def _bounds(schema: Json) -> str:
    """The limits of a value, in brackets."""
    low, high, unit = BOUNDS.get(schema["type"], ("", "", "")) if "type" in schema else ("", "", "")
    least, most = schema.get(low), schema.get(high)
    if least is None and most is None:
        return ""
    if most is None:
        words = f"at least {least:.15g}"
    elif least is None or least == most:
        words = f"{'exactly' if least == most else 'at most'} {most:.15g}"
    else:
        words = f"{least:.15g} to {most:.15g}"
    return f" ({words} {unit}".rstrip() + ")"
