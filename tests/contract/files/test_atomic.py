import fcntl
import os
import shutil
import subprocess
import sys

import pytest

from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.system.child_process import environment


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_and_nothing_else_stays(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    atomic.write_file(path, b"one")
    atomic.write_file(path, b"two")
    assert path.read_bytes() == b"two" and names(path.parent) == ["a.txt"]


def test_a_failing_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(UserError) as caught:
        atomic.write_file(path, b"two")
    assert str(caught.value) == f"{path}: cannot be written (No space left on device); free some space or choose another place"
    assert path.read_bytes() == b"one" and names(tmp_path) == ["a.txt"]


@pytest.fixture
def umask():
    """Sets the umask of this process until the test ends."""
    earlier = os.umask(0o022)
    yield os.umask
    os.umask(earlier)


def modes(folder):
    return {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755), (0o002, 0o664, 0o775)])
def test_the_umask_says_who_may_read_a_new_file_or_folder(tmp_path, umask, mask, file, folder):
    copied = tmp_path / "from elsewhere"
    copied.mkdir()
    (copied / "open").touch()
    (copied / "run").touch()
    for path, mode in ((copied, 0o755), (copied / "open", 0o644), (copied / "run", 0o755)):
        path.chmod(mode)
    umask(mask)
    atomic.write_file(tmp_path / "a.txt", b"private")
    with atomic.folder(tmp_path / "out") as staging:
        shutil.copytree(copied, staging, dirs_exist_ok=True)
        shutil.copytree(copied, staging / "sub")
        (staging / "closed").touch(mode=0o600)  # as safetensors leaves it
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == file
    assert modes(tmp_path / "out") == {"out": folder, "open": file, "run": folder, "closed": file, "sub": folder}


def test_what_is_replaced_keeps_its_permissions(tmp_path, umask):
    umask(0o022)
    atomic.write_file(tmp_path / "a.txt", b"one")
    with atomic.folder(tmp_path / "out"):
        pass
    (tmp_path / "a.txt").chmod(0o600)
    (tmp_path / "out").chmod(0o700)
    atomic.write_file(tmp_path / "a.txt", b"two")
    with atomic.folder(tmp_path / "out") as staging:
        (staging / "a").touch()
    assert modes(tmp_path) | {tmp_path.name: 0} == {tmp_path.name: 0, "a.txt": 0o600, "out": 0o700, "a": 0o644}


def test_a_folder_appears_when_the_block_ends_well(tmp_path):
    with atomic.folder(tmp_path / "sub" / "out") as staging:
        (staging / "a").write_text("1")
        assert names(tmp_path / "sub") == [staging.name]
    assert (tmp_path / "sub" / "out" / "a").read_text() == "1" and names(tmp_path / "sub") == ["out"]


def test_a_folder_replaces_an_earlier_one_whole(tmp_path):
    for name in ("a", "b"):
        with atomic.folder(tmp_path / "out") as staging:
            (staging / name).touch()
    assert names(tmp_path / "out") == ["b"] and names(tmp_path) == ["out"]


@pytest.mark.parametrize("can", [True, False])
def test_a_folder_that_is_replaced_is_never_missing(tmp_path, monkeypatch, can):
    """Killed at any step of the swap, one of the two folders stands there whole; where the kernel swaps, at every step."""
    if not can:
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    with atomic.folder(tmp_path / "out") as staging:
        (staging / "a").touch()
    seen = []
    rename, remove = os.rename, atomic.shutil.rmtree
    monkeypatch.setattr(atomic.os, "rename", lambda *places: (rename(*places), seen.append((tmp_path / "out").exists())))
    monkeypatch.setattr(
        atomic.shutil, "rmtree", lambda *args, **more: (seen.append(names(tmp_path / "out")), remove(*args, **more))
    )
    with atomic.folder(tmp_path / "out") as staging:
        (staging / "b").touch()
    assert names(tmp_path / "out") == ["b"] and names(tmp_path) == ["out"]
    assert (False in seen) != can


@pytest.mark.parametrize(
    "error", [RuntimeError("stop"), KeyboardInterrupt(), UserError("no"), FileNotFoundError(2, "No such file")]
)
def test_a_block_that_fails_leaves_everything_as_it_was_and_its_error_alone(tmp_path, error):
    with atomic.folder(tmp_path / "out") as staging:
        (staging / "a").touch()
    with pytest.raises(type(error)) as caught, atomic.folder(tmp_path / "out") as staging:
        (staging / "b").touch()
        raise error
    assert caught.value is error
    assert names(tmp_path / "out") == ["a"] and names(tmp_path) == ["out"]


def test_a_file_where_a_folder_should_go_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError) as caught, atomic.folder(tmp_path / "out"):
        pass
    assert str(caught.value) == f"{tmp_path / 'out'}: is a file; name a folder"
    assert (tmp_path / "out").read_text() == "mine"


def test_a_place_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for write in (lambda path: atomic.write_file(path, b""), lambda path: atomic.folder(path).__enter__()):
        with pytest.raises(
            UserError, match=r"cannot be written \((Not a directory|File exists)\); free some space or choose another place$"
        ):
            write(tmp_path / "file" / "out")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs the rights of root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_earlier_file_and_folder_whole(small_disk):
    atomic.write_file(small_disk / "a", b"one")
    with atomic.folder(small_disk / "out") as staging:
        (staging / "x").write_text("1")
    with pytest.raises(UserError, match=r"a: cannot be written \(No space left on device\)"):
        atomic.write_file(small_disk / "a", b"x" * 2_000_000)
    with (
        pytest.raises(UserError, match=r"out: cannot be written \(No space left on device\)"),
        atomic.folder(small_disk / "out") as staging,
    ):
        (staging / "y").write_bytes(b"x" * 2_000_000)
    assert (small_disk / "a").read_bytes() == b"one"
    assert names(small_disk) == ["a", "out"] and names(small_disk / "out") == ["x"]


KILLED = """
import os, signal, sys
from pathlib import Path
from potstill.contract.files import atomic
from potstill.contract.system.child_process import environment
with atomic.folder(Path(sys.argv[1])) as staging:
    (staging / "half").write_text("x")
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("filling", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_a_living_one_is_let_be(tmp_path):
    path = tmp_path / "hub"
    subprocess.run([sys.executable, "-c", KILLED, str(path), "killed"], env=environment(), check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".hub.new.")
    living = [sys.executable, "-c", KILLED, str(path), "living"]
    with subprocess.Popen(living, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "filling\n"
        assert not left.exists()
        with atomic.folder(path) as staging:
            (staging / "whole").write_text("y")
        assert len(list(tmp_path.iterdir())) == 2
        other.communicate()
    assert [one.name for one in tmp_path.iterdir()] == ["hub"]


KILLED_WRITING = """
import os, signal, sys
from pathlib import Path
from potstill.contract.files import atomic
if sys.argv[2] == "file":
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    atomic.write_file(Path(sys.argv[1]), b"half")
with atomic.scratch("work", Path(sys.argv[1]).parent) as folder:
    (folder / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "scratch"])
def test_a_killed_process_leaves_no_file_or_scratch_folder_for_longer_than_to_the_next_time(tmp_path, kind):
    path = tmp_path / "answers.json"
    subprocess.run([sys.executable, "-c", KILLED_WRITING, str(path), kind], env=environment(), check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".answers.json." if kind == "file" else "work-")
    other = tmp_path / left.name.replace("answers", "questions").replace("work", "works")  # of another name, so nobody's here
    other.mkdir()
    if kind == "file":
        atomic.write_file(path, b"whole")
        assert path.read_bytes() == b"whole"
    else:
        with atomic.scratch("work", tmp_path) as mine, atomic.scratch("work", tmp_path) as second:
            assert mine.is_dir() and second.is_dir() and oct(mine.stat().st_mode)[-3:] == "700"
    assert {one.name for one in tmp_path.iterdir()} == {other.name} | ({path.name} if kind == "file" else set())


def test_what_another_takes_for_left_behind_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    path, lock, n_locked = tmp_path / "a", fcntl.flock, 0

    def removed_first(descriptor, how):
        nonlocal n_locked
        n_locked += 1
        if n_locked == 1:
            next(tmp_path.glob(".a.*")).unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    atomic.write_file(path, b"whole")
    assert (path.read_bytes(), n_locked, names(tmp_path)) == (b"whole", 2, ["a"])


KILLED_REMOVING = """
import os, shutil, signal, sys
from pathlib import Path
from potstill.contract.files import atomic
shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
atomic.remove_folder(Path(sys.argv[1]))
"""


def test_a_folder_whose_removal_is_killed_is_gone_at_its_place_and_soon_elsewhere(tmp_path):
    path = tmp_path / "work"
    path.mkdir()
    (path / "state").write_text("whole")
    subprocess.run([sys.executable, "-c", KILLED_REMOVING, str(path)], env=environment(), check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".work.gone.") and names(left) == ["state"]
    atomic.remove_left_behind(path)
    assert names(tmp_path) == []
    atomic.remove_folder(path)  # which is not there
