"""A child finds our packages from anywhere, and keeps what was in its path."""

import subprocess
import sys

from potstill.contract.system.child_process import environment


def test_a_child_in_another_folder_finds_the_packages_of_this_process(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "more"))
    found = environment()
    program = "import potstill, sys; print(potstill.__file__); print(sys.path)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=found, capture_output=True, text=True, check=True, timeout=60
    )
    file, path = done.stdout.splitlines()
    assert file == str(repository / "potstill" / "__init__.py")
    assert str(tmp_path / "more") in path


def test_without_a_path_there_is_ours_alone(repository, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert environment()["PYTHONPATH"] == str(repository)
