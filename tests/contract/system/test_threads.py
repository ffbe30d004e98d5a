import os
import subprocess
import sys

import pytest

from potstill.contract.system.child_process import environment
from potstill.contract.system.threads import BLOCKTIME_MS, SPINS, sleep_soon

NAMES = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that its value of now comes back
        monkeypatch.delenv(name)


def test_threads_sleep_soon_where_nothing_else_is_said():
    sleep_soon()
    assert (os.environ["GOMP_SPINCOUNT"], os.environ["KMP_BLOCKTIME"]) == (str(SPINS), str(BLOCKTIME_MS))
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.parametrize("name", NAMES)
def test_what_the_environment_says_stays(monkeypatch, name):
    monkeypatch.setenv(name, "7")
    sleep_soon()
    assert os.environ[name] == "7"
    if name == "OMP_WAIT_POLICY":
        assert "GOMP_SPINCOUNT" not in os.environ


def test_the_console_lets_threads_sleep_soon_before_it_imports_a_command():
    code = (
        "import os, sys; from potstill.commands import main; assert 'GOMP_SPINCOUNT' not in os.environ; sys.argv = ['potstill', '--help']\n"
        "try:\n    main.main()\nfinally:\n    print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(SPINS)
