"""Labelling loses nothing: whatever ends a run, the paths on disk stay as they are, and the same command draws the rest."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.small_task import SMALL_TASK

from potstill.contract.errors import UserError
from potstill.contract.task import load_task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig, LocalConfig
from potstill.labeler.run.label import label
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teachers.config import TeacherConfig
from potstill.labeler.teachers.local import LocalTeacher
from potstill.labeler.teachers.opening import open_local
from potstill.workflows import labelling

pytestmark = pytest.mark.slow

TEACHER = "smollm2-135m-instruct"
TEXTS = [f"text number {i}: it went {'up' if i % 2 else 'down'}" for i in range(20)]
STATED = LocalConfig(n_threads=2, n_batch=512, n_live_paths=8, flash_attention=False)
Table = list[tuple[object, ...]]
TABLES = ("paths", "runs", "texts")

# Imports everything once; then, for each line (store, settings), a fork of it labels. A process of its own would take a second to start.
SERVER = f"""
import json, os, sys
from pathlib import Path
from potstill.contract.task import load_task
from potstill.contract.texts import Text
from potstill.labeler.run import path_collector
from potstill.labeler.config import LabelConfig
from potstill.labeler.teachers.local import LocalConfig
from potstill.labeler.teachers.opening import open_local
from potstill.labeler.run.label import label

path_collector.COMMIT_SECONDS = 0.0  # every path is a commit, so that a kill can fall between any two
path_collector.N_BLOCK, path_collector.N_PILOT = 2, 4
for line in sys.stdin:
    store, model, n_texts, settings = json.loads(line)
    child = os.fork()
    if child:
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)
        continue
    config = LabelConfig(**{{"mode": "cot"}} | settings, max_rationale_tokens=6, deterministic=True)
    teacher = open_local(model, config=LocalConfig(deterministic=True, cache=Path(store).parent / "cache"))
    label(load_task(Path("task.toml")), [Text(text, str(i)) for i, text in enumerate({TEXTS!r}[:n_texts])], Path(store), teacher, config)
    os._exit(0)
"""


class Labeller:
    """A process whose children label until they are done or killed."""

    def __init__(self, folder: Path, repository: Path) -> None:
        (folder / "task.toml").write_text(SMALL_TASK)
        self._folder = folder
        environment = os.environ | {"PYTHONPATH": str(repository)}
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER], cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def begin(self, store: Path, settings: dict[str, object], n_texts: int = 6, model: str | Path = TEACHER) -> int:
        """The process that labels."""
        self._server.stdin.write(json.dumps([str(store), str(model), n_texts, settings]) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def end(self) -> int:
        """Its status, once it is over."""
        return int(self._server.stdout.readline())

    def close(self) -> None:
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(timeout=60)


@pytest.fixture
def labeller(tmp_path: Path, repository: Path) -> Iterator[Labeller]:
    labeller = Labeller(tmp_path, repository)
    yield labeller
    labeller.close()


def stored(file: Path, table: str = "paths") -> Table:
    """Every row with every column."""
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            rows = connection.execute(f"select * from {table} order by 1, 2, 3").fetchall()
    except sqlite3.OperationalError:  # no store, or none of its tables yet
        return []
    connection.close()
    return rows


@pytest.mark.parametrize(
    ("settings", "n_texts", "n_kills", "real"),
    [
        ({"n_paths": 4}, 20, 20, False),
        ({"n_paths": 6, "bound": 0.9}, 8, 4, False),
        ({"n_paths": 2, "mode": "cascade", "n_direct": 2, "uncertain": 0.5}, 16, 4, False),
        ({"n_paths": 4, "mode": "direct", "bound": 0.8}, 6, 3, True),
    ],
    ids=["cot", "adaptive", "cascade", "adaptive direct"],
)
def test_a_run_killed_again_and_again_ends_bit_for_bit_as_an_unbroken_one(
    labeller: Labeller, tmp_path: Path, tiny_models, settings, n_texts, n_kills, real
):
    """Args: real, whether the 135M teacher labels, or a tiny one, with which most of the time is not spent on tokens."""
    model = TEACHER if real else tiny_models["dense"]
    whole = tmp_path / "unbroken.db"
    labeller.begin(whole, settings, n_texts, model)
    assert labeller.end() == 0
    rng, n_in_work, n_stores = random.Random(5), 0, 0
    before: Table = []
    while n_in_work < n_kills:
        assert n_stores < n_kills, "hardly a kill hits a run in work"
        file = tmp_path / f"killed_{n_stores}.db"
        n_more, seconds = rng.choice([(0, rng.uniform(0, 0.4)), (rng.randrange(1, 5), rng.uniform(0, 0.02))])
        child = labeller.begin(file, settings, n_texts, model)
        while n_more and len(stored(file)) < len(before) + n_more and running(child):
            time.sleep(0.002)
        time.sleep(seconds)
        with suppress(ProcessLookupError):  # it has ended, which is no kill
            os.kill(child, signal.SIGKILL)
        was_killed = labeller.end() == signal.SIGKILL
        assert set(before) <= set(stored(file))
        n_in_work, before = n_in_work + was_killed, stored(file)
        if not was_killed:  # a fast machine has done it all: the next run begins anew
            assert all(stored(file, table) == stored(whole, table) for table in TABLES)
            n_stores, before = n_stores + 1, []
    labeller.begin(file, settings, n_texts, model)
    assert labeller.end() == 0
    assert set(before) <= set(stored(file))
    for table in TABLES:
        assert stored(file, table) == stored(whole, table)


def running(process: int) -> bool:
    """Whether it neither ended nor waits to be reaped."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(TEXTS)))
    return tmp_path


def test_signals_stop_the_console_with_one_line_and_the_same_command_ends_as_if_unbroken(folder: Path, console):
    arguments = ["--deterministic", "--mode", "direct", "--paths", "8", "--pack", "Q4_0"]
    command = [*console, "label", "task.toml", "texts.jsonl"]
    store = folder / "stopped" / "labels.db"
    n_before = 0
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = subprocess.Popen(
            [*command, "stopped", *arguments], cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
        )
        deadline = time.monotonic() + 120
        while len(stored(store)) <= n_before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code, said
        n_paths = len(stored(store))
        assert (
            said.strip() == f"potstill: stopped; {n_paths} of 160 paths are in stopped/labels.db; the same command draws the rest"
        )
        assert n_before < n_paths < 160
        n_before = n_paths
    for out in ("stopped", "unbroken"):
        subprocess.run([*command, out, *arguments], cwd=folder, check=True, capture_output=True, timeout=120)
    assert stored(store) == stored(folder / "unbroken" / "labels.db")
    soft_labels = [(folder / out / "soft_labels.parquet").read_bytes() for out in ("stopped", "unbroken")]
    assert soft_labels[0] == soft_labels[1]


def hear_interrupts() -> None:
    """A test run in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_two_deterministic_runs_are_equal_and_another_seed_is_not(labeller: Labeller, tmp_path: Path):
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        labeller.begin(tmp_path / f"{name}.db", {"n_paths": 2, "seed": seed})
        assert labeller.end() == 0
        made[name] = [row[1:] for row in stored(tmp_path / f"{name}.db")]
    assert made["a"] == made["b"]
    assert not set(made["a"]) & set(made["c"])


@pytest.fixture
def teacher(smollm2: Path) -> Iterator[LocalTeacher]:
    opened = open_local(TEACHER, config=STATED)
    yield opened
    opened.close()


def test_when_llama_cpp_fails_in_the_middle_what_was_drawn_is_kept_and_the_same_command_goes_on(folder: Path, teacher, monkeypatch):
    engine, task, texts = teacher._engine, load_task(folder / "task.toml"), [Text(text, str(i)) for i, text in enumerate(TEXTS[:6])]
    decode, n_decodes = engine.decode, 0

    def failing(tokens):
        nonlocal n_decodes
        n_decodes += 1
        if n_decodes == 9:
            engine._calls.flag[0] = b"!"  # llama.cpp's own way to fail: its abort callback says so
        return decode(tokens)

    monkeypatch.setattr(engine, "decode", failing)
    config = LabelConfig(mode="cot", n_paths=4, max_rationale_tokens=6)
    with pytest.raises(UserError) as caught:
        label(task, texts, folder / "labels.db", teacher, config)
    message = str(caught.value)
    assert message.startswith("llama.cpp could not decode (2: ")
    assert message.endswith("); paths drawn before are kept, and the same command goes on")
    before = stored(folder / "labels.db")
    assert 0 < len(before) < 24
    engine._calls.flag[0] = b"\0"
    report = label(task, texts, folder / "labels.db", teacher, config)
    assert (report.n_paths, report.n_drawn) == (24, 24 - len(before))
    assert set(before) <= set(stored(folder / "labels.db"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of some megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"needs root's rights to mount a small disk: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(place: Path, leave: int = 0) -> Path:
    """Take all space of a disk but so many bytes."""
    ballast = place / "ballast"
    with ballast.open("ab", buffering=0) as file:
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        file.write(b"x" * max(0, free - leave))
    return ballast


FULL = "labels.db: the disk is full; paths stored so far are kept: free some space and run the same command again"


@pytest.mark.parametrize("leave", [0, 4096, 40_000, 60_000, 90_000])
def test_a_full_disk_ends_the_run_with_one_line_and_freeing_it_lets_the_same_command_finish(small_disk: Path, leave):
    from support.teachers.table_teacher import TASK, Table

    texts = [Text(f"text number {i}", str(i)) for i in range(400)]
    ballast = fill(small_disk, leave)
    with pytest.raises(UserError) as caught:
        label(TASK, texts, small_disk / "out" / "labels.db", Table(), LabelConfig(n_paths=4))
    assert str(caught.value).startswith(str(small_disk))
    assert str(caught.value).endswith(FULL.partition(":")[2])
    ballast.unlink()
    report = label(TASK, texts, small_disk / "out" / "labels.db", Table(), LabelConfig(n_paths=4))
    assert report.n_paths == 1600


def test_paths_stored_before_the_disk_filled_up_are_kept(small_disk: Path, monkeypatch):
    from support.teachers.table_teacher import TASK, Table

    from potstill.labeler.run import path_collector

    monkeypatch.setattr(path_collector, "COMMIT_SECONDS", 0.0)
    texts = [Text(f"text number {i}", str(i)) for i in range(400)]
    n_before = 0

    def fill_later(live):
        nonlocal n_before
        if live.n_paths == 100:
            fill(small_disk)
        n_before = live.n_paths

    with pytest.raises(UserError, match="the disk is full"):
        label(TASK, texts, small_disk / "labels.db", Table(), LabelConfig(n_paths=4), fill_later)
    (small_disk / "ballast").unlink()
    assert len(stored(small_disk / "labels.db")) == n_before >= 100
    assert label(TASK, texts, small_disk / "labels.db", Table(), LabelConfig(n_paths=4)).n_drawn == 1600 - n_before


def test_a_disk_that_is_full_when_soft_labels_are_written_leaves_no_half_of_them(folder: Path, small_disk: Path, monkeypatch):
    config, teacher = LabelConfig("direct", n_paths=1, deterministic=True), TeacherConfig(pack="Q4_0")
    arguments = (folder / "task.toml", folder / "texts.jsonl", small_disk / "out", config)
    write = labelling.write_soft_labels

    def fill_first(path, rows):
        fill(small_disk)
        write(path, rows)

    monkeypatch.setattr(labelling, "write_soft_labels", fill_first)
    with pytest.raises(UserError) as caught:
        labelling.label(*arguments, teacher=teacher)
    file = small_disk / "out" / "soft_labels.parquet"
    assert str(caught.value) == f"{file}: cannot be written (No space left on device); free some space or choose another place"
    assert {path.name for path in file.parent.iterdir()} <= {"labels.db", "labels.db.lock", "labels.db-wal", "labels.db-shm"}
    (small_disk / "ballast").unlink()
    monkeypatch.undo()
    report = labelling.label(*arguments, teacher=teacher)
    assert (report.labels.n_drawn, len(report.rows)) == (0, 20)


def test_a_second_writer_is_refused_before_its_teacher_is_loaded_and_the_first_goes_on(folder: Path, monkeypatch):
    def loads(*_args: object, **_keywords: object) -> LocalTeacher:
        raise AssertionError("the teacher was loaded")

    monkeypatch.setattr("potstill.workflows.teacher.open_teacher", loads)
    with LabelStore.create(folder / "labels.db") as first:
        with pytest.raises(UserError) as caught:
            labelling.label(folder / "task.toml", folder / "texts.jsonl", folder)
        message = "another process is writing to it; wait for it, or label into another folder"
        assert str(caught.value) == f"{folder}/labels.db: {message}"
        first.add_texts([Text("a text", "a")])
        assert first.texts().keys() == {"a"}
