"""How this machine draws fastest is measured once, kept, and measured again when what was kept is damaged."""

import os
from pathlib import Path

import msgspec
import pytest

from potstill.labeler.config import LocalConfig
from potstill.labeler.engine import autotune
from potstill.labeler.engine.autotune import EngineSettings
from potstill.labeler.engine.llama import LlamaEngine
from potstill.labeler.teacher import AnswerSpec, Identity, PathRequest
from potstill.labeler.teachers import local
from potstill.labeler.teachers.local import LocalTeacher

pytestmark = pytest.mark.slow

FOUND = EngineSettings(2, 256, 24, False, 400.0, 90.0)


def test_what_was_measured_is_remembered_under_its_key(tmp_path: Path):
    autotune.remember(tmp_path / "new", "a", FOUND)
    assert autotune.remembered(tmp_path / "new", "a") == FOUND
    assert autotune.remembered(tmp_path / "new", "b") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"n_threads": 2}', b'{"n_threads": "x"}', b"\xff"])
def test_a_damaged_file_counts_as_not_measured(tmp_path: Path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert autotune.remembered(tmp_path, "a") is None


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    autotune.remember(tmp_path / "file" / "engine", "a", FOUND)
    assert autotune.remembered(tmp_path / "file" / "engine", "a") is None


@pytest.fixture(scope="module")
def engine(smollm2: Path):
    engine = LlamaEngine(smollm2)
    yield engine
    engine.close()


@pytest.fixture
def teacher(engine: LlamaEngine, tmp_path: Path):
    opened: list[LocalTeacher] = []

    def open_teacher(**config: object) -> LocalTeacher:
        said: list[str] = []
        opened.append(LocalTeacher(engine, Identity("m", "d", "d", "b"), LocalConfig(cache=tmp_path, **config), said.append))
        opened[-1].said = said
        return opened[-1]

    return open_teacher


def test_a_teacher_measures_once_and_says_so_and_measures_again_when_the_file_is_damaged(teacher, tmp_path: Path, monkeypatch):
    measured = []
    monkeypatch.setattr(local.autotune, "measured", lambda *_: measured.append(1) or FOUND)
    monkeypatch.setattr(local.autotune, "is_busy", lambda: False)
    first = teacher()
    assert first.engine_settings([1] * 300) == first.engine_settings([1] * 20) == FOUND
    assert first.said == ["measuring how this machine draws paths fastest"]
    again = teacher(n_live_paths=8)
    assert again.engine_settings([1] * 300) == EngineSettings(2, 256, 8, False, 400.0, 90.0)
    assert (again.said, len(measured)) == ([], 1)
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(file.read_bytes()[:-5])
    assert teacher().engine_settings([1] * 300) == FOUND
    assert len(measured) == 2


def test_what_was_measured_beside_other_work_is_said_and_kept_for_minutes_only(teacher, tmp_path: Path, monkeypatch):
    measured = []
    monkeypatch.setattr(local.autotune, "measured", lambda *_: measured.append(1) or FOUND)
    monkeypatch.setattr(local.autotune, "is_busy", lambda: True)
    opened = teacher()
    assert opened.engine_settings([1] * 300) == FOUND
    assert opened.said == ["measuring how this machine draws paths fastest" + local.BUSY]
    assert teacher().engine_settings([1] * 300) == FOUND
    assert len(measured) == 1
    (file,) = tmp_path.glob("*.json")
    long_ago = file.stat().st_mtime - 60 * autotune.BUSY_MINUTES
    os.utime(file, (long_ago, long_ago))
    assert teacher().engine_settings([1] * 300) == FOUND
    assert len(measured) == 2


def test_a_measurement_of_an_idle_machine_goes_before_one_beside_other_work(tmp_path: Path):
    other = msgspec.structs.replace(FOUND, n_threads=1)
    autotune.remember(tmp_path, "a", other, busy=True)
    assert autotune.remembered(tmp_path, "a") == other
    autotune.remember(tmp_path, "a", FOUND)
    assert autotune.remembered(tmp_path, "a") == FOUND


def test_nothing_is_measured_where_everything_is_stated_or_the_schedule_is_fixed(teacher):
    stated = teacher(n_threads=1, n_batch=64, n_live_paths=4, flash_attention=True)
    assert stated.engine_settings([1]) == EngineSettings(1, 64, 4, True, 0.0, 0.0)
    fixed = teacher(deterministic=True, n_threads=1)
    assert fixed.engine_settings([1]) == EngineSettings(1, 512, 24, False, 0.0, 0.0)
    assert (stated.said, fixed.said) == ([], [])


@pytest.mark.parametrize(("config", "numbers"), [({}, [1, 2, 4]), ({"n_threads": 1}, [1]), ({"deterministic": True}, [2])], ids=str)
def test_the_number_of_threads_follows_what_else_runs_unless_it_is_stated_or_equal_bits_are_wanted(
    teacher, config, numbers, monkeypatch
):
    monkeypatch.setattr(local, "thread_candidates", lambda _: [4, 2, 1])
    monkeypatch.setattr(local.autotune, "measured", lambda *_: FOUND)
    opened = teacher(n_batch=64, n_live_paths=4, flash_attention=True, **config)
    spec = AnswerSpec("direct", ("up", "down"), "Opinion:", "Sentiment:", temperature=0.5, max_rationale_tokens=4)
    assert list(opened.answer("Posts:\n", 0, [PathRequest("a", "Post: buying\nSentiment:", (0,))], spec, run_seed=0))
    assert opened._pace._candidates == numbers


def test_the_real_measurement_chooses_among_what_it_tried(teacher, monkeypatch):
    monkeypatch.setattr(autotune, "BATCHES", (64, 128))
    monkeypatch.setattr(autotune, "LIVE_PATHS", {False: (8,), True: (16,)})
    monkeypatch.setattr(autotune, "_N_STEPS", 1)
    found = teacher().engine_settings([5] * 40)
    assert found.n_batch in (64, 128)
    assert (found.n_live_paths, found.flash_attention) in ((8, False), (16, True))
    assert found.prompt_tokens_per_s > 0
    assert found.path_tokens_per_s > 0
