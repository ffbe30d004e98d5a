"""`import potstill`: its names load nothing until they are used, take paths as strings, and their examples run."""

import ast
import doctest
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import potstill

CALLS = ("load_task", "label", "derive", "train", "evaluate", "export_bundle", "Classifier")  # in the order of the work
N_TEXTS, N_GOLD = 24, 9


def test_importing_loads_nothing_but_the_front_door(repository):
    code = "import sys; before = set(sys.modules); import potstill; print(*sorted(set(sys.modules) - before - set(sys.stdlib_module_names)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=60, check=True)
    assert [name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names] == ["potstill"]


def test_every_public_name_is_there_documented_and_listed():
    assert set(potstill.__all__) <= set(dir(potstill))
    for name in potstill.__all__:
        assert getattr(potstill, name).__doc__, name


def test_the_three_lists_of_names_agree(repository):
    """Type checkers read the imports, `import *` reads `__all__`, and the interpreter reads the table."""
    nodes = ast.walk(ast.parse((repository / "potstill" / "__init__.py").read_text()))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module.startswith("potstill.")]
    found = {alias.asname or alias.name: (node.module, alias.name) for node in imports for alias in node.names}
    assert found == potstill._PLACES
    assert potstill.__all__ == list(potstill._PLACES)


def test_packages_keep_their_names():
    from potstill import export, serve  # not the calls

    assert Path(export.__file__).name == Path(serve.__file__).name == "__init__.py"


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'potstill' has no attribute 'distil'$"):
        potstill.distil  # noqa: B018


@pytest.fixture(scope="module")
def folder(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example, cut to a few texts."""
    folder = tmp_path_factory.mktemp("walk")
    example = repository / "examples" / "market_stance"
    shutil.copy(example / "task.toml", folder)
    for name, n in (("texts.jsonl", N_TEXTS), ("gold.jsonl", N_GOLD)):
        lines = (example / name).read_text(encoding="utf-8").splitlines()[:n]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_the_examples_of_all_calls_walk_from_texts_to_answers(folder: Path, monkeypatch):
    monkeypatch.chdir(folder)
    known = {"potstill": potstill}
    for name in CALLS:
        example = doctest.DocTestParser().get_doctest(getattr(potstill, name).__doc__, known, f"potstill.{name}", None, None)
        assert example.examples, f"the docstring of potstill.{name} has no example"
        report: list[str] = []
        result = doctest.DocTestRunner(verbose=False).run(example, out=report.append, clear_globs=False)
        assert result.failed == 0, "".join(report)
        known = example.globs
    rows = [json.loads(line) for line in (folder / "votes.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == N_TEXTS + N_GOLD
