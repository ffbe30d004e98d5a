""".github/THIRD_PARTY_NOTICES.md names what this repository carries of others, and what its packages are."""

import importlib.util
import re
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def program(repository):
    spec = importlib.util.spec_from_file_location("notices", repository / ".ci" / "notices.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["notices"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["notices"]


def test_the_notices_are_what_the_program_writes_from_the_tree_and_the_installed_packages(repository, program):
    assert (repository / ".github" / "THIRD_PARTY_NOTICES.md").read_text() == program.notices(), (
        "run: .venv/bin/python .ci/notices.py"
    )


def test_every_minified_or_marked_file_is_named_with_its_version_and_its_licence_in_full(repository, program):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a clone: git does not say which files belong to it")
    files = [name for name in listed.stdout.split("\0") if name]
    foreign = {name for name in files if re.search(r"\.min\.(js|css)$|(^|/)(vendor|third_party)/|\.(woff2?|ttf|otf)$", name)}
    assert foreign == {file for one in program.CARRIED for file in one.files}
    notices = (repository / ".github" / "THIRD_PARTY_NOTICES.md").read_text()
    for one in program.CARRIED:
        assert f"**{one.name} {program.version_of(one)}**, {one.licence}" in notices
        assert (repository / one.licence_file).read_text().strip() in notices


def test_every_package_that_an_extra_asks_for_has_a_line_with_a_licence(program):
    lines = program.notices().splitlines()
    for name in program.requirements():
        (line,) = [line for line in lines if line.startswith(f"| {name} | ")]
        assert "not installed here" not in line and "see its files" not in line
