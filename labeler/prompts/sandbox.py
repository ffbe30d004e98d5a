"""The child process that renders chat templates, so that one from a stranger cannot hold up or fill the process that labels.

It is started as a script, imports nothing of ours, and speaks lines of JSON: first the search path of its parent, the bounds and
the template, answered with what stands in the template; then one object of variables at a time, answered with the text.

The environment is that of `transformers` 4.57 (`utils/chat_template_utils.py`): blocks trimmed, `{% break %}` and `{% continue %}`,
`{% generation %}`, `tojson` without HTML escapes, `raise_exception`, `strftime_now`. Only the date stands still, so that equal
conversations are equal prompts on every day.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NoReturn

TODAY = datetime(2025, 1, 1)
LONGEST_CONSTANT = 60  # characters of a constant that is reported
MOST_CONSTANTS, MOST_NAMES = 200, 100
GAVE_UP = (RuntimeError, MemoryError)  # with RecursionError in it
RENDERINGS_PER_S = 10  # by so many renderings the limit of processor time grows by a second; those in use take milliseconds
LONGEST_REASON = 500  # characters


def serve(lines: Iterator[str], answer: Callable[[dict[str, Any]], None]) -> None:
    """Answer every line of the parent, until there is none.

    Args:
        lines: JSON objects; the first has `path`, `template`, `max_chars`, `cpu_s` and `memory_bytes`, the others are variables.
        answer: takes `{"text": ...}`, `{"facts": ...}`, or `{"error": ...}` with the reason in one line.
    """
    first = json.loads(next(lines))
    sys.path[:] = first["path"]
    import jinja2  # the search path is known only here

    bound(first["cpu_s"], first["memory_bytes"])
    broken = (jinja2.TemplateError, SyntaxError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, *GAVE_UP)
    try:
        environment = made_environment()
        facts = read_facts(environment, first["template"])
        template = environment.from_string(first["template"])
    except broken as error:
        answer({"error": reason(error)})
        return
    answer({"facts": facts})
    for n_before, line in enumerate(lines):
        bound(first["cpu_s"] + n_before // RENDERINGS_PER_S, first["memory_bytes"])
        try:
            answer({"text": bounded_text(template.generate(json.loads(line)), first["max_chars"])})
        except broken as error:
            answer({"error": reason(error)})


def bound(cpu_s: int, memory_bytes: int) -> None:
    """Limit what this process may use; the system stops it beyond. Where there are no such limits, the parent's clock is left."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_AS, memory_bytes)):
        hard = resource.getrlimit(kind)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (limit, hard))
        except (ValueError, OSError):  # macOS refuses a limit of the address space
            continue


def made_environment() -> Any:
    """The sandboxed environment of a chat template."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %} ... {% endgeneration %}`: marks what a model is trained on; here its body only."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def refuse(words: object) -> NoReturn:
        raise TemplateError(str(words))

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=refuse, strftime_now=TODAY.strftime)
    return environment


def read_facts(environment: Any, template: str) -> dict[str, Any]:
    """What a template reads and compares.

    Returns:
        `undeclared`, names of variables that it may expect; `compared`, for such names the constants that stand beside them in a
        comparison; `constants`, all short strings in it.
    """
    from jinja2 import meta, nodes

    undeclared = sorted(meta.find_undeclared_variables(environment.parse(template)) - set(environment.globals))[:MOST_NAMES]
    tree = environment.parse(template)  # anew: the search for variables folds lists of constants
    compared: dict[str, list[Any]] = {name: [] for name in undeclared}
    for node in tree.find_all(nodes.Compare):
        values = [const.value for const in node.find_all(nodes.Const) if isinstance(const.value, str | int)]
        for found in {found.name for found in node.find_all(nodes.Name)} & compared.keys():
            compared[found] += [value for value in values if value not in compared[found]][:MOST_NAMES]
    texts = {const.value for const in tree.find_all(nodes.Const) if isinstance(const.value, str)}
    short = sorted(text for text in texts if text.strip() and len(text) <= LONGEST_CONSTANT)
    return {
        "undeclared": undeclared,
        "compared": {name: values for name, values in compared.items() if values},
        "constants": short[:MOST_CONSTANTS],
    }


def bounded_text(pieces: Iterator[str], max_chars: int) -> str:
    """The pieces as one text; raises ValueError beyond the largest number of characters."""
    made, n_chars = [], 0
    for piece in pieces:
        n_chars += len(piece)
        if n_chars > max_chars:
            raise ValueError(f"it writes more than {max_chars} characters")
        made.append(piece)
    return "".join(made)


def reason(error: BaseException) -> str:
    """Why a template cannot be rendered, in one line."""
    if isinstance(error, RecursionError):
        return "it calls itself without end"
    if isinstance(error, MemoryError):
        return "it needs too much memory"
    return " ".join(str(error)[:LONGEST_REASON].split()) or type(error).__name__


def _write(found: dict[str, Any]) -> None:
    """Send one answer to the parent."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="ascii")  # type: ignore[union-attr]  # json.dumps writes nothing else
    serve(iter(sys.stdin), _write)
