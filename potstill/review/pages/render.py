"""Templates and files of the pages. Whatever comes from a text, a person or a task is escaped by the template engine."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from potstill.review.pages.text_marks import marked, printable
from potstill.review.people.answers import answer_text
from potstill.serve.http.asgi import Refused, Reply

FOLDER = Path(__file__).parent
FILES = {
    "review.css": b"text/css; charset=utf-8",
    "review.js": b"text/javascript; charset=utf-8",
    "htmx.min.js": b"text/javascript; charset=utf-8",
    "htmx.LICENSE": b"text/plain; charset=utf-8",
}
HTML = b"text/html; charset=utf-8"


@cache
def _environment() -> Environment:
    """The templates, read once."""
    found = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters.update(printable=printable, marked=marked, answer=answer_text, percent=percent)
    return found


def render(template: str, **values: Any) -> str:
    """A page. Args: template, its name without suffix; values, what it shows."""
    return _environment().get_template(f"{template}.html").render(**values)


def percent(share: float) -> str:
    """`83 %`, which stays on one line."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def failure_page(status: int, message: str) -> Reply:
    """The page that says why a request was refused."""
    return Reply(status, render("failure", status=status, message=message).encode("utf-8", "replace"), HTML)


@cache
def _content(name: str) -> bytes:
    """The bytes of a file, read once."""
    return (FOLDER / "static" / name).read_bytes()


def static_file(name: str) -> Reply:
    """A style sheet or script; raises Refused: 404 for any other name."""
    if name not in FILES:
        raise Refused(404, "there is no such file")
    return Reply(200, _content(name), FILES[name], [(b"cache-control", b"private, max-age=3600")])
