"""Threads wait asleep while other programs keep the cores busy, and only then."""

import os
import subprocess
import sys

import pytest

from potstill.contract.system.child_process import environment
from potstill.contract.system.threads import (
    FIRST_PATIENCE_S,
    IDLE,
    LONGEST_PATIENCE_S,
    STARVED,
    WINDOW_S,
    IdleShare,
    IdleTeam,
    Waiting,
    gnu_openmp,
)

WITH_A_TEAM = """
import ctypes, ctypes.util, json, os
from potstill.contract.system.threads import IdleTeam, gnu_openmp
ctypes.CDLL("libgomp.so.1")
def n_threads():
    return len(os.listdir("/proc/self/task"))
team = IdleTeam(5)
counts = [n_threads()]
team.start()
while n_threads() < 6: pass
counts.append(n_threads())
team.start()
counts.append(n_threads())
team.stop()
while n_threads() > 1: pass
counts.append(n_threads())
team.stop()
print(json.dumps([len(gnu_openmp()), counts]))
"""


class Team:
    """A team that is only a flag."""

    lives = False

    def start(self):
        self.lives = True

    def stop(self):
        self.lives = False


@pytest.fixture
def waiting():
    """A way of waiting on four threads; `idle` is what the machine's cores are."""
    made = Waiting(lambda: made.idle)
    made._team, made.idle = Team(), 0.0
    return made


def work(waiting, share: float, seconds: float = WINDOW_S) -> bool:
    """Work for a while with that share of the cores; returns whether threads sleep now."""
    for _ in range(round(seconds / 0.25)):
        waiting.worked(4, 0.25, 0.25 * 4 * share)
    return waiting.asleep


def test_threads_that_have_their_cores_go_on_spinning(waiting):
    assert not work(waiting, STARVED + 0.05, 60)


def test_threads_that_are_kept_off_their_cores_sleep_while_they_wait(waiting):
    assert not work(waiting, 0.7, WINDOW_S / 2)
    assert work(waiting, 0.7, WINDOW_S / 2)
    assert work(waiting, 0.3, 60)  # beside another program no core is idle, however long they sleep


def test_when_cores_are_idle_again_they_spin_again(waiting):
    work(waiting, 0.7)
    waiting.idle = IDLE + 0.1
    assert work(waiting, 0.6, FIRST_PATIENCE_S - WINDOW_S)
    assert not work(waiting, 0.6)
    assert not work(waiting, 1.0, 10)


def test_where_idle_cores_were_a_mistake_they_sleep_longer_each_time(waiting):
    waiting.idle = 0.5
    slept = []
    for _ in range(8):
        assert work(waiting, 0.5)
        n = 1
        while work(waiting, 0.5):
            n += 1
        slept.append(n * WINDOW_S)
    assert slept[:3] == [FIRST_PATIENCE_S, 2 * FIRST_PATIENCE_S, 4 * FIRST_PATIENCE_S]
    assert slept[-1] == LONGEST_PATIENCE_S


def test_where_the_system_does_not_say_what_is_idle_they_spin_again_after_a_while(waiting):
    work(waiting, 0.7)
    waiting.idle = None
    assert not work(waiting, 0.6, FIRST_PATIENCE_S)


def test_one_thread_waits_for_nobody(waiting):
    for _ in range(100):
        waiting.worked(1, 1.0, 0.1)
    assert not waiting.asleep


def test_closing_lets_threads_wait_as_usual(waiting):
    work(waiting, 0.7)
    waiting.close()
    waiting.close()
    assert not waiting.asleep


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the system shows no threads")
def test_a_team_lives_until_it_is_stopped_and_leaves_no_thread(tmp_path):
    done = subprocess.run([sys.executable, "-c", WITH_A_TEAM], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[1, [1, 6, 6, 1]]\n"


def test_without_an_openmp_library_there_is_no_team(tmp_path, monkeypatch):
    monkeypatch.setattr("potstill.contract.system.threads.gnu_openmp", list)
    team = IdleTeam(3)
    team.start()
    assert not team.lives


def test_loaded_libraries_are_found_once_each_by_their_names(tmp_path):
    (tmp_path / "maps").write_text(
        "7f00-7f01 r--p 00000000 fe:00 12 /usr/lib/libgomp.so.1.0.0\n7f01-7f02 r-xp 00000000 fe:00 12 /usr/lib/libgomp.so.1.0.0\n"
        "7f02-7f03 r-xp 00000000 fe:00 13 /a b/torch/lib/libgomp-a34b3233.so.1\n7f03-7f04 rw-p 00000000 00:00 0 \n"
        "7f04-7f05 r-xp 00000000 fe:00 14 /usr/lib/libm.so.6\n"
    )
    assert [str(path) for path in gnu_openmp(tmp_path / "maps")] == [
        "/a b/torch/lib/libgomp-a34b3233.so.1",
        "/usr/lib/libgomp.so.1.0.0",
    ]
    assert gnu_openmp(tmp_path / "none") == []


def test_the_idle_share_is_that_since_the_last_look(tmp_path):
    share = IdleShare(tmp_path / "stat")
    assert share() is None
    for counts, expected in (
        ("10 0 10 100 20 0 0 0 0 0", None),
        ("40 0 20 150 30 0 0 0 0 0", 0.6),
        ("40 0 20 150 30 0 0 0 0 0", None),
    ):
        (tmp_path / "stat").write_text(f"cpu  {counts}\ncpu0 1 1 1 1\n")
        assert share() == expected
