"""Labelling with two real actors of a local Ray cluster: the paths are those of one process, and a kill loses none."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from support.small_task import SMALL_TASK

from potstill.contract.errors import UserError
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.texts import Text, write_texts
from potstill.labeler.config import LabelConfig
from potstill.labeler.teachers.config import TeacherConfig
from potstill.workflows.labelling import plan_labelling

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("POTSTILL_CLUSTER"), reason="starts Ray, which needs free cores: make test-cluster"),
]
N_TEXTS = 200  # seven blocks, the last one shorter


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_models):
    folder = tmp_path_factory.mktemp("label")
    (folder / "task.toml").write_text(SMALL_TASK)
    (folder / "texts.jsonl").write_bytes(
        write_texts(Text(f"the price will {'rise' if n % 2 else 'fall'} {n}") for n in range(N_TEXTS))
    )
    (folder / "teacher.gguf").write_bytes(tiny_models["dense"].read_bytes())
    return folder


def begin(folder, out, *options, mode="cot"):
    command = f"label task.toml texts.jsonl {out} --teacher teacher.gguf --mode {mode} --paths 2 --pack as-is --refine off".split()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", "potstill", *command, *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process):
    out, err = process.communicate(timeout=170)
    assert process.returncode == 0, out + err


@pytest.fixture(autouse=True)
def found_here(monkeypatch, repository):
    monkeypatch.setenv("PYTHONPATH", str(repository))


RAY = ("--engine", "ray", "--actors", "2")


def paths(store):
    with sqlite3.connect(store) as connection:
        return sorted(connection.execute("select text_id, path, variant, seed, rationale, word_logprobs from paths").fetchall())


def test_two_actors_draw_the_paths_of_one_process_and_a_killed_driver_goes_on(folder):
    finish(begin(folder, "alone", "--deterministic", "--threads", "1"))
    process = begin(folder, "both", "--deterministic", *RAY)
    store = folder / "both/labels.db"
    end = time.monotonic() + 120
    while not (store.exists() and n_paths(store) > 50):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert n_paths(store) < 2 * N_TEXTS
    finish(begin(folder, "both", "--deterministic", *RAY))
    assert paths(store) == paths(folder / "alone/labels.db")
    assert len(paths(store)) == 2 * N_TEXTS
    one, two = (read_soft_labels(folder / out / "soft_labels.parquet") for out in ("alone", "both"))
    assert one == two


def n_paths(store):
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            return connection.execute("select count(*) from paths").fetchone()[0]
    except sqlite3.OperationalError:  # the tables are being made
        return 0


def test_direct_soft_labels_are_the_same_without_a_fixed_schedule(folder):
    finish(begin(folder, "direct-alone", "--threads", "1", mode="direct"))
    finish(begin(folder, "direct-both", *RAY, mode="direct"))
    one, two = (read_soft_labels(folder / out / "soft_labels.parquet") for out in ("direct-alone", "direct-both"))
    assert [row.id for row in one] == [row.id for row in two]
    for mine, other in zip(one, two, strict=True):
        assert mine.probs == pytest.approx(other.probs, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"hours": 1.0}, "--hours cannot be combined with --engine ray: how fast a cluster is, only a run shows"),
        (
            {"config": LabelConfig(mode="cot", bound=0.9)},
            "--adaptive cannot be combined with --engine ray: it stops a text by what",
        ),
    ],
)
def test_what_several_teachers_at_once_cannot_do_is_refused(folder, changes, problem):
    with pytest.raises(UserError, match=problem):
        plan_labelling(
            folder / "task.toml", folder / "texts.jsonl", **{"teacher": TeacherConfig("teacher.gguf", engine="ray")} | changes
        )
