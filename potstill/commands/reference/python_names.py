"""The reference of the Python names, `docs/api.md`, from the source text.

Nothing is imported for it: so `potstill.mlflow` is described where MLflow is not installed, and a field with the comment beside it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from textwrap import dedent

import griffe

ROOT = Path(__file__).resolve().parents[3]
HEAD = "<!-- Written by `make docs` from the source text; do not edit. -->\n\n# The Python names\n\n"
OPTIONAL = ("sklearn", "mlflow")  # modules beside the package's own names
TITLES = {"parameters": "Takes", "returns": "Returns", "yields": "Yields", "raises": "Raises"}
SECTION = re.compile(r"(?<!\n)\n(?=(?:Args|Returns|Yields|Raises):\n)")  # griffe wants an empty line before a section
ROLE = re.compile(r":\w+:`~?([^`]+)`")
WIDTH = 100  # of a signature on one line, in characters


def api_reference() -> str:
    """The whole page, as Markdown."""
    package = _load()
    public = {f"potstill.{name}": _target(package[str(name)]) for name in package.exports or []}
    modules = {f"potstill.{name}": package[name] for name in OPTIONAL}
    rows = [f"| [`{name}`](#{_anchor(name)}) | {_first_sentence(one)} |" for name, one in (public | modules).items()]
    parts = [HEAD, _prose(package), "\n\n", "\n".join(["| name | what it is |", "| --- | --- |", *rows]), "\n"]
    for name, one in public.items():
        parts += _section(name, one, 2)
    for name, module in modules.items():
        parts.append(f"\n## {name}\n\n{_prose(module)}\n")
        for inner in _public(module):
            parts += _section(f"{name}.{inner.name}", inner, 3)
    parts.append("\n## What the calls return\n\nA program gets these from the calls above, and makes none itself.\n")
    for result in _results(package, list(public.values())):
        parts += _section(result.name, result, 3)
    return "".join(parts)


def _load() -> griffe.Module:
    """The package, read and not imported."""
    package = griffe.load("potstill", search_paths=[ROOT], allow_inspection=False)
    if not isinstance(package, griffe.Module):
        raise TypeError(f"{ROOT / 'potstill'} is not a package")
    return package


def _target(one: griffe.Object | griffe.Alias) -> griffe.Object:
    """The object itself, where the name is an import."""
    return one.final_target if isinstance(one, griffe.Alias) else one


def _public(parent: griffe.Object) -> list[griffe.Object]:
    """The classes and functions that are defined there under a public name, and a class's properties, in order."""
    found = [one for one in parent.members.values() if not one.is_alias and not one.name.startswith("_")]
    return [_target(one) for one in found if one.is_class or one.is_function or "property" in one.labels]


def _results(package: griffe.Module, public: list[griffe.Object]) -> list[griffe.Class]:
    """The project's own types that the public calls return, and that have no public name."""
    found: dict[str, griffe.Class] = {}
    calls = [call for one in public for call in (_public(one) if one.is_class else [one])]
    for call in calls:
        for word in call.returns.iterate() if isinstance(call, griffe.Function) and isinstance(call.returns, griffe.Expr) else ():
            if isinstance(word, griffe.ExprName) and word.canonical_path.startswith("potstill."):
                target = _target(package[word.canonical_path.partition(".")[2]])
                if isinstance(target, griffe.Class) and target not in public:
                    found[target.path] = target
    return list(found.values())


def _section(name: str, one: griffe.Object, level: int) -> Iterator[str]:
    """A name's section, and those of a class's methods; where a class is known by its fields, its methods are a table."""
    yield f"\n{'#' * level} {name}\n\n"
    if isinstance(one, griffe.Class):
        yield _prose(one) + "\n"
        if table := _fields(one):
            yield table + _computed(one)
            return
        made = one.members.get("__init__")
        if isinstance(made, griffe.Function) and made.docstring:
            yield f"\n{_signature(name, made)}{_prose(made)}\n"
        for inner in _public(one):
            yield from _section(f"{name}.{inner.name}", inner, level + 1)
    else:
        yield (_signature(name, one) if isinstance(one, griffe.Function) else _typed(one)) + _prose(one) + "\n"


def _typed(one: griffe.Object) -> str:
    """A property, in a block of code."""
    return f"```python\n{one.name}: {_type(one, getattr(one, 'annotation', None))}\n```\n\n"


def _computed(one: griffe.Class) -> str:
    """What a class with fields has beside them."""
    own = _public(one)
    if not own:
        return ""
    rows = ["", "| beside its fields | type | |", "| --- | --- | --- |"]
    for inner in own:
        call = isinstance(inner, griffe.Function)
        words = ", ".join(word.name for word in getattr(inner, "parameters", []) if word.name not in ("self", "cls"))
        kind = inner.returns if isinstance(inner, griffe.Function) else getattr(inner, "annotation", None)
        name = f"{inner.name}({words})" if call else inner.name
        rows.append(f"| `{name}` | {_cell(f'`{_type(inner, kind)}`')} | {_first_paragraph(inner)} |")
    return "\n".join(rows) + "\n"


def _signature(name: str, call: griffe.Function) -> str:
    """How a call is written, in a block of code."""
    own = [one for one in call.parameters if one.name not in ("self", "cls")]
    for one in own:
        one.default = None if one.default is None else _value(one.default, call)
    shown = name.removeprefix("potstill.").removeprefix(f"{call.module.name}.")
    called = griffe.Function(shown, parameters=griffe.Parameters(*own), returns=call.returns)
    line = called.signature()
    if call.name == "__init__":
        line = line.removesuffix(" -> None")
    if len(line) > WIDTH:
        words = [f"    {word}," for word in _split(line[line.index("(") + 1 : line.rindex(")" + line.rpartition(")")[2])])]
        line = "\n".join([line[: line.index("(") + 1], *words, ")" + line.rpartition(")")[2]])
    return f"```python\n{line}\n```\n\n"


def _split(inner: str) -> Iterator[str]:
    """Split a list of parameters at the commas that stand in no brackets."""
    depth, start = 0, 0
    for place, sign in enumerate(inner):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth:
            yield inner[start:place].strip()
            start = place + 1
    yield inner[start:].strip()


def _value(value: str | griffe.Expr, owner: griffe.Object) -> str:
    """A default as a reader wants it: a constant's value in place of its name, and what a factory makes."""
    seen = value
    while isinstance(seen, griffe.ExprName | griffe.ExprAttribute):
        named = _find(seen.canonical_path, owner)
        if not isinstance(named, griffe.Attribute) or named.value is None:
            break
        seen = named.value
    if isinstance(seen, griffe.ExprCall) and str(seen.function) == "field":
        made = {one.name: str(one.value) for one in seen.arguments if isinstance(one, griffe.ExprKeyword)}
        return made["default"] if "default" in made else _made_by(made["default_factory"])
    return str(seen)


def _made_by(factory: str) -> str:
    """What the factory of a default makes."""
    if factory.startswith("lambda: "):
        return factory.removeprefix("lambda: ")
    return {"list": "[]", "dict": "{}"}.get(factory, f"{factory}()")


def _type(owner: griffe.Object, annotation: str | griffe.Expr | None) -> str:
    """A type, with the values of a Literal in place of its name."""
    if not isinstance(annotation, griffe.Expr):
        return str(annotation)
    words = []
    for word in annotation.iterate():
        named = _find(word.canonical_path, owner) if isinstance(word, griffe.ExprName) else None
        meant = str(named.value) if isinstance(named, griffe.Attribute) and named.value is not None else ""
        words.append(meant if meant.startswith("Literal[") else str(word))
    return "".join(words)


def _find(path: str, owner: griffe.Object) -> griffe.Object | None:
    """What a path names in its user's package, also a field of a configuration that a constant holds; None: nothing there."""
    try:
        return _target(owner.package[path.removeprefix("potstill.")])
    except KeyError:
        holder, _, name = path.rpartition(".")
    held = _find(holder, owner) if holder else None
    if isinstance(held, griffe.Attribute) and isinstance(held.value, griffe.ExprCall):
        return _find(f"{held.value.function.canonical_path}.{name}", owner)
    return None


def _fields(one: griffe.Class) -> str:
    """A class's fields with types, defaults, and the comment beside each; nothing for a class without."""
    own = [field for field in one.members.values() if isinstance(field, griffe.Attribute) and _is_field(field)]
    if not own:
        return ""
    rows = ["", "| field | type | default | |", "| --- | --- | --- | --- |"]
    for field in own:
        default = "" if field.value is None else f"`{_value(field.value, field)}`"
        rows.append(
            f"| `{field.name}` | {_cell(f'`{_type(field, field.annotation)}`')} | {_cell(default)} | {_cell(_comment(field))} |"
        )
    return "\n".join(rows) + "\n"


def _is_field(one: griffe.Attribute) -> bool:
    """Whether it is written with a type in the body of the class, for everybody."""
    return one.annotation is not None and "property" not in one.labels and not one.name.startswith("_")


def _comment(field: griffe.Attribute) -> str:
    """The comment beside a field."""
    lines = field.lines_collection[field.filepath][(field.lineno or 1) - 1 : field.endlineno]  # type: ignore[index]
    return " ".join(found[1].strip() for line in lines if (found := re.search(r"(?:^|\s)# (?!noqa|type:)(.*)$", line)))


def _prose(one: griffe.Object) -> str:
    """A docstring as Markdown: its paragraphs, then what it takes, returns and raises."""
    if one.docstring is None:
        return ""
    text = SECTION.sub("\n\n", one.docstring.value)
    parts = []
    for section in griffe.Docstring(text, parent=one).parse("google", warnings=False):
        if section.kind.value in TITLES:
            rows = [f"- {_item(row)}" for row in section.value]
            parts.append("\n".join([f"**{TITLES[section.kind.value]}**", "", *rows]))
        elif section.kind.value == "examples":
            parts += [part for _, text in section.value for part in _paragraphs(str(text))]
        else:
            parts += _paragraphs(str(section.value))
    return "\n\n".join(parts)


def _paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a docstring as prose or as blocks of code."""
    for code, parts in groupby(re.split(r"\n\n+", text), key=_is_code):
        if code:
            yield "```python\n" + dedent("\n\n".join(parts)) + "\n```"
        else:
            yield from map(_plain, parts)


def _is_code(paragraph: str) -> bool:
    """Whether it is indented, a session, or Python: prose ends with a full stop, which Python does not."""
    if paragraph.startswith((" ", ">>> ")):
        return True
    try:
        ast.parse(paragraph)
    except SyntaxError:
        return False
    return True


def _plain(text: str) -> str:
    """Roles of Sphinx and double backticks as Markdown's code."""
    return ROLE.sub(r"`\1`", text).replace("``", "`")


def _item(row: griffe.DocstringElement) -> str:
    """A row of a section: the names, and what is said of them."""
    about = _plain(" ".join(row.description.split()))
    name = getattr(row, "name", None) or str(row.annotation or "").strip("()")
    return f"`{name}`: {about}" if name else about


def _first_paragraph(one: griffe.Object) -> str:
    """The first paragraph of a docstring, for a table."""
    text = _plain(one.docstring.value if one.docstring else "").split("\n\n")[0]
    return _cell(" ".join(text.split()))


def _first_sentence(one: griffe.Object) -> str:
    """What a name is, for the table."""
    return re.split(r"(?<=[.:;]) | Args:", _first_paragraph(one), maxsplit=1)[0].rstrip(".:;")


def _cell(text: str) -> str:
    """A text in a table. A stroke would end the cell, and in code no sign keeps it from that everywhere."""
    return text.replace(" | ", " or ").replace("|", "&#124;")


def _anchor(name: str) -> str:
    """The link to a heading, as the site makes it."""
    return name.replace(".", "").lower()
