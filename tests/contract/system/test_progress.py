"""Long work tells how far it is to whoever watches in its own thread's context, and to nobody else."""

import itertools
import threading

import pytest

from potstill.contract.system import progress
from potstill.contract.system.progress import counted, tell_progress, watched_by


@pytest.fixture
def told():
    """What a watcher was told inside of the test."""
    seen = []
    with watched_by(lambda *one: seen.append(one)):
        yield seen


def test_without_a_watcher_items_come_as_they_are_and_nobody_is_told():
    tell_progress("embed texts", 1, 2)
    assert list(counted("abc", "spell", 3)) == ["a", "b", "c"]


def test_items_are_counted_as_they_are_taken(told, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", itertools.count().__next__)
    assert list(counted(iter("abc"), "spell", 3)) == ["a", "b", "c"]
    assert told == [("spell", done, 3) for done in range(4)]


def test_of_many_items_in_a_moment_the_first_and_the_last_are_told(told, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 7.0)
    assert len(list(counted(range(1000), "count", 1000))) == 1000
    assert told == [("count", 0, 1000), ("count", 1, 1000), ("count", 1000, 1000)]


def test_the_inner_watcher_is_told_in_place_of_the_outer_one_and_only_inside(told):
    inner = []
    with watched_by(lambda *one: inner.append(one)):
        tell_progress("inside")
    tell_progress("outside", 1, 2)
    assert (inner, told) == ([("inside", 0, 0)], [("outside", 1, 2)])


def test_a_watcher_is_left_though_its_work_fails(told):
    with pytest.raises(ZeroDivisionError), watched_by(lambda *one: pytest.fail("is told of work outside")):
        raise ZeroDivisionError
    tell_progress("after")
    assert told == [("after", 0, 0)]


def test_another_thread_has_no_watcher(told):
    thread = threading.Thread(target=tell_progress, args=("elsewhere",))
    thread.start()
    thread.join()
    assert told == []
