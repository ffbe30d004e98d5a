"""What the documents say is true of the program."""

import dataclasses
import inspect
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import potstill
from potstill.commands.console.lazy import load
from potstill.commands.main import COMMANDS
from potstill.serve.http.application.routes import FIXED_ROUTES, find_route
from potstill.serve.http.config import Limits

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")])
OURS = ("potstill", "make")
ROOM_NAMES = ("potstill/contract", "potstill/workflows", "labeler", "trainer", "export", "serve", "models")


def documented_commands():
    """(document, line) of every command of ours in a fenced block: lines that start with `potstill` or `make`, after a prompt or not."""
    for path in DOCUMENTS:
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S):
            lines = block.replace("\\\n", " ").splitlines() if language in {"", "sh", "bash", "console", "shell"} else []
            for line in lines:
                line = line.strip().removeprefix("$ ")
                if line.startswith(tuple(f"{name} " for name in OURS)):
                    yield pytest.param(line, id=f"{path.relative_to(ROOT)}: {line}")


def words(line):
    """The words of a documented line, without its comment and what it is piped into."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found = []
    for word in lexer:
        if set(word) <= set("|&;<>()"):
            break
        found.append(word)
    return found


def test_the_references_are_what_the_program_says(tmp_path):
    """In a process of its own, as `make docs` writes them: click keeps the help option with which a command was first called."""
    pages = ("cli.md", "api.md", "http.md")
    subprocess.run(
        [sys.executable, "-m", "potstill.commands.reference", *[tmp_path / page for page in pages]], cwd=ROOT, check=True
    )
    for page in pages:
        found = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert found == (tmp_path / page).read_text(encoding="utf-8"), f"docs/{page} is old; run: make docs"


def section(page, heading):
    """What stands below a heading, without the headings below it."""
    return re.split(r"^#+ ", page.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.M)[0]


def test_every_public_name_is_in_the_reference_with_its_arguments_or_fields():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in potstill.__all__:
        about, thing = section(page, f"potstill.{name}"), getattr(potstill, name)
        assert about, f"{name} is missing"
        assert f"(#potstill{name.lower()})" in page
        if dataclasses.is_dataclass(thing):
            rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \| .*\|$", about, re.M)
            fields = [field for field in dataclasses.fields(thing) if not field.name.startswith("_")]
            assert [row[0] for row in rows][: len(fields)] == [field.name for field in fields]
            for (_, default), field in zip(rows, fields, strict=False):
                if isinstance(field.default, int | str | None):
                    assert default == f"`{field.default!r}`", f"{name}.{field.name}"
        elif hasattr(thing, "__struct_fields__"):
            assert re.findall(r"^\| `(\w+)` \| .* \| .* \|$", about, re.M)[: len(thing.__struct_fields__)] == list(
                thing.__struct_fields__
            )
        elif callable(thing) and not isinstance(thing, type):
            for argument in inspect.signature(thing).parameters:
                assert re.search(rf"[(\s*]{argument}: ", about), f"{name} does not show {argument}"


def test_every_path_of_the_server_is_in_the_reference_with_its_methods():
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    found = set(re.findall(r"^## (GET|POST) (\S+)$", page, re.M))
    for route in FIXED_ROUTES.values():
        assert (route.methods[0], route.label) in found
    routes = [(find_route(path, method), method, path) for method, path in found]
    assert all(route is not None and method in route.methods for route, method, _ in routes), "a path that the server does not know"
    kinds = {(route.kind, route.bundle is None, route.version is None, route.question is None) for route, _, _ in routes}
    ways = ["/v2/models/x", "/v2/models/x/versions/1", "/bundles/x", "/bundles/x/questions/y", "/questions/y"]
    for way, action in itertools.product(ways, ["", "/ready", "/infer", "/classify", "/predict", "/v1/decisions"]):
        if (route := find_route(way + action, "POST")) is not None:
            assert (route.kind, route.bundle is None, route.version is None, route.question is None) in kinds, way + action


def test_a_body_in_the_reference_of_the_server_has_the_limits_of_a_server_without_options():
    about = section((ROOT / "docs" / "http.md").read_text(encoding="utf-8"), "POST /classify")
    limits = Limits()
    assert f'"texts": [string (at most {limits.max_chars} characters), ...] (1 to {limits.max_texts} entries)' in about
    assert "429" in about and "[ClassifyReply](#classifyreply)" in about


def test_the_modules_beside_the_names_are_in_the_reference():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in (
        "sklearn.PotstillClassifier.fit",
        "sklearn.PotstillClassifier.predict_proba",
        "mlflow.log_model",
        "mlflow.save_model",
    ):
        assert section(page, f"potstill.{name}"), name


@pytest.mark.parametrize("line", list(documented_commands()))
def test_a_documented_command_exists_with_its_options(line):
    program, *rest = words(line)
    if program == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
        assert {word for word in rest if "=" not in word} <= targets
        return
    if not rest or rest[0].startswith("-"):
        assert set(rest) <= {"--help", "-h", "--version"}
        return
    assert rest[0] in COMMANDS, f"no command {rest[0]}"
    command = load(COMMANDS[rest.pop(0)])
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        inner = command.get_command(click.Context(command), rest[0])
        assert inner is not None, f"no command {rest[0]} in {command.name}"
        command = inner
        rest.pop(0)
    options = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]} | {"--help", "-h"}
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"{command.name} has no option {word}"


def test_every_option_of_a_command_says_what_it_is():
    for name, row in COMMANDS.items():
        for option in load(row).params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help, f"potstill {name} {option.opts[0]} has no help"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_link_to_a_file_of_ours_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_what_is_said_of_a_field_names_no_constant_of_the_source():
    sources = [path.read_text(encoding="utf-8") for room in ROOM_NAMES for path in (ROOT / room).rglob("*.py")]
    constants = {name for source in sources for name in re.findall(r"^([A-Z][A-Z_]{2,})\b[^\n=]* = ", source, re.M)}
    constants -= {"CPU", "NAME", "URL"}  # which are words as well
    rows = re.findall(r"^\| `\w+` \| .* \| (.*) \|$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.M)
    assert {"LOSSES", "WEIGHTINGS"} <= constants and len(rows) > 100
    assert not [row for row in rows if constants & set(re.findall(r"\b[A-Z_]{3,}\b", row))]
