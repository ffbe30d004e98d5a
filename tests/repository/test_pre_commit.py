"""The hooks before a commit check what `make lint` checks, with what `make` installs."""

import re
import shutil
import subprocess

import pytest
import yaml


@pytest.fixture(scope="module")
def hooks(repository):
    (local,) = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"
    return local["hooks"]


def test_the_hooks_are_the_commands_of_make_lint_and_download_nothing(repository, hooks):
    target = re.search(r"^lint: .*\n((?:\t.*\n)+)", (repository / "Makefile").read_text(), re.M)[1]
    made = [line.strip().replace("$(BIN)", ".venv/bin").removesuffix(" .") for line in target.splitlines()]
    assert [hook["entry"] for hook in hooks] == made
    assert {hook["language"] for hook in hooks} == {"system"}


@pytest.mark.slow
def test_pre_commit_itself_accepts_the_file(repository):
    if (program := shutil.which("pre-commit")) is None:
        pytest.skip("pre-commit is not installed")
    done = subprocess.run(
        [program, "validate-config", repository / ".pre-commit-config.yaml"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
