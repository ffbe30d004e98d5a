"""A labelling run draws what is missing, repeats nothing, and refuses to mix what differs."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from support.teachers.table_teacher import TASK, TEXTS, Table

from potstill.contract.errors import StoppedError, UserError
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.run.label import label
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teacher import TeacherPath

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("mode", "variants"), [("cot", 1), ("direct", 4)])
def test_every_text_gets_every_path_once_and_direct_shares_them_among_variants(tmp_path: Path, mode, variants):
    teacher = Table()
    report = label(TASK, TEXTS, tmp_path / "labels.db", teacher, LabelConfig(mode=mode, n_paths=4))
    assert sorted(teacher.asked) == [(text.id, n, n % variants) for text in TEXTS for n in range(4)]
    assert (report.n_paths, report.n_drawn) == (24, 24)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("llama.cpp could not decode")])
@pytest.mark.parametrize("stop_after", [0, 1, 13])
def test_after_a_stop_only_the_missing_paths_are_drawn(tmp_path: Path, error, stop_after):
    first, second, unbroken = Table(stop_after, error), Table(), Table()
    with pytest.raises(StoppedError if isinstance(error, KeyboardInterrupt) else UserError) as caught:
        label(TASK, TEXTS, tmp_path / "a.db", first, LabelConfig(n_paths=4))
    if isinstance(error, KeyboardInterrupt):
        assert f"stopped; {stop_after} of 24 paths are in" in str(caught.value)
    report = label(TASK, TEXTS, tmp_path / "a.db", second, LabelConfig(n_paths=4))
    assert len(first.asked) == stop_after
    assert not set(first.asked) & set(second.asked)
    assert (report.n_paths, report.n_drawn) == (24, 24 - stop_after)
    label(TASK, TEXTS, tmp_path / "b.db", unbroken, LabelConfig(n_paths=4))
    assert rows(tmp_path / "a.db") == rows(tmp_path / "b.db")


def rows(file: Path) -> list[TeacherPath]:
    with LabelStore.read(file) as store:
        return list(store.paths(store.runs()[0]))


def test_asking_for_more_paths_adds_to_the_same_run(tmp_path: Path):
    label(TASK, TEXTS, tmp_path / "labels.db", Table(), LabelConfig(n_paths=2))
    teacher = Table()
    label(TASK, TEXTS, tmp_path / "labels.db", teacher, LabelConfig(n_paths=3))
    assert {number for _, number, _ in teacher.asked} == {2}


def test_a_text_that_is_too_long_is_counted_and_not_asked_again(tmp_path: Path):
    texts = [*TEXTS, Text("very long", "long")]
    for _ in range(2):
        report = label(TASK, texts, tmp_path / "labels.db", Table(), LabelConfig(n_paths=2))
        assert report.n_too_long == 1
    assert "1 text is too long for the teacher's context" in report.as_text()


@pytest.mark.parametrize(
    ("task", "teacher", "config", "differs"),
    [
        (msgspec.structs.replace(TASK, question="Other?"), Table(), LabelConfig(), "task digest, prompt digest"),
        (TASK, Table(digest="e"), LabelConfig(), "teacher digest, source digest"),
        (TASK, Table(), LabelConfig(seed=1), "seed"),
        (TASK, Table(), LabelConfig(mode="direct", n_variants=8), "prompt digest, mode, n variants"),
    ],
)
def test_a_run_that_differs_is_refused_with_what_differs_and_new_run_starts_beside(tmp_path: Path, task, teacher, config, differs):
    label(TASK, TEXTS, tmp_path / "labels.db", Table(), LabelConfig())
    with pytest.raises(UserError, match=f"was labelled with another {differs}; use --new-run"):
        label(task, TEXTS, tmp_path / "labels.db", teacher, config)
    label(task, TEXTS, tmp_path / "labels.db", teacher, LabelConfig(**{**config.__dict__, "new_run": True}))
    with LabelStore.read(tmp_path / "labels.db") as store:
        assert [len({path.text_id for path in store.paths(run)}) for run in store.runs()] == [6, 6]


def test_progress_ends_at_everything(tmp_path: Path):
    seen = []
    label(
        TASK, TEXTS, tmp_path / "labels.db", Table(), LabelConfig(n_paths=2), lambda live: seen.append((live.n_paths, live.total))
    )
    assert seen[-1] == (12, 12)


KILLED = """
import sys
from pathlib import Path
from support.teachers.table_teacher import TASK, TEXTS
from potstill.labeler.teachers.local import LocalConfig
from potstill.labeler.teachers.opening import open_local
from potstill.labeler.config import LabelConfig
from potstill.labeler.run.label import label
teacher = open_local(
    "smollm2-135m-instruct", config=LocalConfig(n_threads=1, n_batch=512, n_live_paths=8, flash_attention=False)
)
label(TASK, TEXTS, Path(sys.argv[1]), teacher, LabelConfig(n_paths=4, max_rationale_tokens=6))
"""


def started(file: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[3]
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file)], env={"PYTHONPATH": f"{root}:{root / 'tests'}", "HOME": str(Path.home())}
    )


def n_stored(file: Path) -> int:
    try:
        return len(rows(file))
    except (UserError, IndexError):
        return 0


def test_a_killed_run_of_the_real_teacher_goes_on_and_ends_with_every_path_once(tmp_path: Path):
    file = tmp_path / "labels.db"
    process = started(file)
    deadline = time.monotonic() + 120
    while not n_stored(file) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = rows(file)
    assert before
    assert started(file).wait(timeout=240) == 0
    after = rows(file)
    assert {(path.text_id, path.path) for path in after} == {(text.id, n) for text in TEXTS for n in range(4)}
    assert len(after) == 24
    assert [path for path in after if path in before] == before
