"""What the source takes from the standard library is there, in this version of Python and in every later one that is at hand."""

import shutil
import subprocess
from pathlib import Path

import other_pythons
import pytest
from other_pythons import found_in


def interpreter(version: str) -> str | None:
    """A Python of that version: on the path, or one that pyenv keeps."""
    kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    return str(kept[-1]) if kept else shutil.which(f"python{version}")


def test_everything_that_the_source_takes_from_the_standard_library_is_there(repository):
    found = found_in(repository)
    assert found.problems == []
    assert found.n_files > 400
    assert found.n_names > 2000


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_in_later_versions_too(version):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on this machine")
    done = subprocess.run([python, other_pythons.__file__], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"CPython {version}."), done.stderr
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["0 problems"])


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import os\n\nos.no_such_call()\n", "models/one.py:3: os has no no_such_call"),
        ("import os as system\nsystem.no_such_call()\n", "models/one.py:2: os has no no_such_call"),
        ("from json import no_such_name\n", "models/one.py:1: json has no no_such_name"),
        ("import xml.no_such_module\n", "models/one.py:1: there is no xml.no_such_module"),
        ("def f():\n\n\n    return 1 +\n", "models/one.py: SyntaxError: invalid syntax (one.py, line 4)"),
        ("pattern = '\\d'\n", "models/one.py: SyntaxError: invalid escape sequence '\\d' (one.py, line 1)"),
    ],
)
def test_what_a_version_lacks_or_does_not_parse_is_a_problem(tmp_path, code, problem):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "one.py").write_text(code)
    assert found_in(tmp_path).problems == [problem]


def test_submodules_and_names_that_are_there_are_none(tmp_path):
    (tmp_path / "models").mkdir()
    code = "import os.path\nimport xml.etree.ElementTree as tree\nfrom concurrent import futures\nos.path.join\ntree.parse\n"
    (tmp_path / "models" / "one.py").write_text(code)
    found = found_in(tmp_path)
    assert (found.problems, found.n_names) == ([], 5)
