"""The label store keeps every path, repeats none, and says what is wrong with a file that is not one."""

import errno
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from support.teachers.table_teacher import SETTINGS, path

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import locks
from potstill.contract.texts import Text
from potstill.labeler.store.database import LabelStore, RunSettings
from potstill.labeler.teacher import TooLong

pytestmark = pytest.mark.slow


def stored_numbers(store, run):
    return [(path.text_id, path.path) for path in store.paths(run)]


def test_a_stored_path_comes_back_as_it_was(tmp_path: Path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        run = store.begin_run(SETTINGS)
        store.add_texts([Text("text", "a")])
        store.add(run, [path()])
    with LabelStore.read(tmp_path / "labels.db") as store:
        assert list(store.paths(store.runs()[0])) == [path()]
        assert store.runs()[0].settings == SETTINGS
        assert store.texts() == {"a": Text("text", "a")}


def test_a_closed_store_is_one_file_to_copy_also_after_it_was_read(tmp_path: Path):
    for number in range(2):
        with LabelStore.create(tmp_path / "labels.db") as store:
            store.add(store.begin_run(SETTINGS), [path(number=number)])
        with LabelStore.read(tmp_path / "labels.db") as store:
            assert len(list(store.paths(store.runs()[0]))) == number + 1
        assert sorted(file.name for file in tmp_path.iterdir()) == ["labels.db", "labels.db.lock"]


def test_a_store_that_is_being_read_can_be_closed(tmp_path: Path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        store.add(store.begin_run(SETTINGS), [path()])
        reader = LabelStore.read(tmp_path / "labels.db")
        paths = reader.paths(reader.runs()[0])
        assert next(paths) == path()
    assert list(paths) == []
    reader.close()


def test_equal_settings_find_the_same_run_and_others_make_a_new_one(tmp_path: Path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        assert store.begin_run(SETTINGS) == store.begin_run(SETTINGS)
        assert (
            store.begin_run(RunSettings(**{**{f: getattr(SETTINGS, f) for f in SETTINGS.__struct_fields__}, "seed": 1})).number == 2
        )


def test_a_run_goes_on_with_another_number_of_layers_on_the_gpu_unless_it_is_deterministic(tmp_path: Path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        run = store.begin_run(msgspec.structs.replace(SETTINGS, gpu_layers=20))
        assert store.begin_run(msgspec.structs.replace(SETTINGS, gpu_layers=17)) == run
        fixed = [msgspec.structs.replace(SETTINGS, gpu_layers=n, deterministic=True) for n in (20, 17)]
        assert [store.begin_run(settings).number for settings in fixed] == [2, 3]
        assert store.begin_run(msgspec.structs.replace(SETTINGS, kv_type="q8_0")).number == 4


def test_a_run_of_a_version_that_knew_fewer_settings_is_found_again(tmp_path: Path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        run = store.begin_run(SETTINGS)
        store.add(run, [path()])
    older = {
        key: value for key, value in msgspec.to_builtins(SETTINGS).items() if key not in ("n_direct", "bound", "deterministic")
    }
    with sqlite3.connect(tmp_path / "labels.db") as connection:
        connection.execute("update runs set settings = ?, digest = 'of fewer settings'", (json.dumps(older),))
    connection.close()
    with LabelStore.create(tmp_path / "labels.db") as store:
        assert store.begin_run(SETTINGS) == run
        assert stored_numbers(store, run) == [("a", 0)]


def test_a_text_keeps_its_words_and_takes_newer_gold(tmp_path: Path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        store.add_texts([Text("text", "a", "X"), Text("bad \ud800", "b")])
        store.add_texts([Text("text", "a", "X", "up"), Text("bad \ud800", "b")])
        assert store.texts()["a"] == Text("text", "a", "X", "up")
        for changed in (Text("other", "a", "X"), Text("text", "a", "Y"), Text("text", "a")):
            with pytest.raises(UserError, match="text 'a' was another text when it was labelled"):
                store.add_texts([Text("new", "c"), changed])
        assert store.texts().keys() == {"a", "b"}


def test_a_lock_that_cannot_be_taken_blames_nobody_else(tmp_path: Path):
    (tmp_path / "labels.db.lock").mkdir()
    with pytest.raises(UserError) as caught:
        LabelStore.create(tmp_path / "labels.db")
    expected = f"{tmp_path}/labels.db.lock: unable to open database file; check the disk and the file's permissions"
    assert str(caught.value) == expected


def test_a_file_system_without_locks_is_not_taken_for_another_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """SQLite says "busy" to ENOLCK; here a real writer makes it say so, and the system call answers as such a file system does."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with LabelStore.create(tmp_path / "labels.db"):
        monkeypatch.setattr(locks.fcntl, "lockf", refuse)
        with pytest.raises(UserError, match=r"labels.db: its file system gives no locks \(No locks available\), so nothing could"):
            LabelStore.create(tmp_path / "labels.db")


def test_a_store_that_is_refused_keeps_no_lock(tmp_path: Path):
    not_a_database(tmp_path / "labels.db")
    with pytest.raises(FormatError) as kept:  # the error is kept, and with it the frames that it went through
        LabelStore.create(tmp_path / "labels.db")
    (tmp_path / "labels.db").unlink()
    LabelStore.create(tmp_path / "labels.db").close()
    assert kept


def test_an_empty_file_becomes_a_store(tmp_path: Path):
    (tmp_path / "labels.db").touch()
    with LabelStore.create(tmp_path / "labels.db") as store:
        assert store.begin_run(SETTINGS).number == 1


def test_a_batch_with_a_path_that_is_there_already_is_refused_whole(tmp_path: Path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        run = store.begin_run(SETTINGS)
        store.add(run, [path()])
        with pytest.raises(FormatError, match="UNIQUE"):
            store.add(run, [path(number=1), path()])
        assert stored_numbers(store, run) == [("a", 0)]


def test_texts_that_are_too_long_are_remembered(tmp_path: Path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        run = store.begin_run(SETTINGS)
        store.add(run, [TooLong("b", 9000, 100)])
        assert store.too_long(run) == {"b"}


def test_lone_surrogates_do_not_stop_the_run(tmp_path: Path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        store.add_texts([Text("bad \ud800 text", "a")])
        assert store.texts()["a"].text == "bad ? text"


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path: Path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        store.begin_run(SETTINGS)
        with pytest.raises(UserError, match="another process is writing to it"):
            LabelStore.create(tmp_path / "labels.db")
        with LabelStore.read(tmp_path / "labels.db") as reader:
            assert len(reader.runs()) == 1
    LabelStore.create(tmp_path / "labels.db").close()


def test_a_killed_writer_leaves_what_it_stored_and_no_lock(tmp_path: Path):
    code = (
        "import os, signal, sys; from pathlib import Path; from support.teachers.table_teacher import SETTINGS, path; from potstill.labeler.store.database import LabelStore\n"
        "store = LabelStore.create(Path(sys.argv[1])); run = store.begin_run(SETTINGS); store.add(run, [path()])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[3]
    environment = {"PYTHONPATH": f"{root}:{root / 'tests'}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "labels.db")], env=environment, check=False, timeout=60)
    assert done.returncode == -9
    with LabelStore.create(tmp_path / "labels.db") as store:
        assert stored_numbers(store, store.begin_run(SETTINGS)) == [("a", 0)]


def not_a_database(file: Path):
    file.write_bytes(b"text, not a database" * 100)


def another_database(file: Path):
    with sqlite3.connect(file) as connection:
        connection.execute("create table t (x)")
    connection.close()


def a_newer_format(file: Path):
    LabelStore.create(file).close()
    with sqlite3.connect(file) as connection:
        connection.execute("pragma user_version = 2")
    connection.close()


def cut_short(file: Path):
    with LabelStore.create(file) as store:
        store.add(store.begin_run(SETTINGS), [path(number=n) for n in range(500)])
    file.write_bytes(file.read_bytes()[:9000])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (not_a_database, "is damaged or not a label store"),
        (another_database, "is not a label store of format 1 (found 0)"),
        (a_newer_format, "is not a label store of format 1 (found 2)"),
        (cut_short, "is damaged or not a label store"),
    ],
)
def test_a_file_that_is_no_label_store_is_refused(tmp_path: Path, damage, problem):
    file = tmp_path / "labels.db"
    damage(file)
    with pytest.raises(FormatError) as caught, LabelStore.read(file) as store:
        list(store.paths(store.runs()[0]))
    assert problem in str(caught.value)
    assert str(file) in str(caught.value)


def test_reading_a_store_that_is_not_there_names_the_command_that_makes_one(tmp_path: Path):
    with pytest.raises(FormatError, match="no such label store; make one with: potstill label"):
        LabelStore.read(tmp_path / "labels.db")
