"""Locks: one process alone holds one, and a file system that has none is not taken for another process."""

import errno

import pytest

from potstill.contract.errors import UserError
from potstill.contract.files import locks

NO_LOCKS = (
    "{path}: its file system gives no locks (No locks available), so nothing could keep a second process from writing there too; "
    "choose a folder on a local disk"
)


@pytest.fixture
def no_locks(monkeypatch):
    """The system calls of a file system without locks; none can be mounted in a test."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    monkeypatch.setattr(locks.fcntl, "flock", refuse)


def test_a_lock_is_held_until_its_file_is_closed(tmp_path):
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("w") as second:
        locks.take(path, first)
        with pytest.raises(locks.HeldError):
            locks.take(path, second)
        first.close()
        locks.take(path, second)


def test_a_file_system_with_locks_passes(tmp_path):
    locks.check_available(tmp_path / "labels.db")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_named_as_such(tmp_path, no_locks):
    path = tmp_path / "labels.db"
    with pytest.raises(UserError) as caught:
        locks.check_available(path)
    assert str(caught.value) == NO_LOCKS.format(path=path)
    with path.open("w") as file, pytest.raises(UserError) as caught:
        locks.take(path, file)
    assert str(caught.value) == NO_LOCKS.format(path=path)
