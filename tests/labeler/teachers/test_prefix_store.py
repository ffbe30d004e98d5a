"""Decoded prefixes are kept on disk; whatever is wrong with that folder costs time, never an answer."""

import os
from pathlib import Path

import pytest

from potstill.labeler.paths import Ask
from potstill.labeler.teacher import Reading
from potstill.labeler.teachers import prefix_store
from potstill.labeler.teachers.local_teacher import LocalConfig
from potstill.labeler.teachers.opening import open_local

READING = Reading("direct", ("up", "down"), "Opinion:", "Answer:", temperature=0.5, max_rationale_tokens=6)
PREFIX = "Text: I buy\nAnswer: up\n\nText: I sell\nAnswer: down\n\n"


def test_a_state_comes_back_as_it_was_and_other_keys_have_none(tmp_path: Path):
    prefix_store.save(tmp_path / "new", "a", b"state")
    assert prefix_store.load(tmp_path / "new", "a") == b"state"
    assert prefix_store.load(tmp_path / "new", "b") is None
    assert prefix_store.load(tmp_path / "nowhere", "a") is None


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:10], lambda d: b"", lambda d: d[:40] + b"?" + d[41:]])
def test_a_damaged_file_counts_as_none(tmp_path: Path, damage):
    prefix_store.save(tmp_path, "a", b"some state" * 10)
    file = tmp_path / "a.kv"
    file.write_bytes(damage(file.read_bytes()))
    assert prefix_store.load(tmp_path, "a") is None


def test_the_least_recently_used_go_first_when_there_are_too_many(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(prefix_store, "MAX_BYTES", 1000)
    for age, key in enumerate("cba"):
        prefix_store.save(tmp_path, key, b"x" * 300)
        os.utime(tmp_path / f"{key}.kv", (age, age))
    assert prefix_store.load(tmp_path, "c")  # used now
    prefix_store.save(tmp_path, "d", b"x" * 300)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.kv", "c.kv", "d.kv"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000


def test_a_state_larger_than_all_that_may_be_kept_drives_nothing_out(tmp_path: Path, monkeypatch):
    prefix_store.save(tmp_path, "a", b"x")
    monkeypatch.setattr(prefix_store, "MAX_BYTES", 100)
    prefix_store.save(tmp_path, "b", b"x" * 90)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.kv"]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    prefix_store.save(tmp_path / "file" / "engine", "a", b"state")
    assert prefix_store.load(tmp_path / "file" / "engine", "a") is None


def test_the_real_teacher_answers_the_same_with_a_kept_prefix_and_decodes_a_damaged_one_anew(smollm2: Path, tmp_path: Path):
    def answers() -> list[tuple[float, ...]]:
        teacher = open_local(str(smollm2), pack="as-is", config=LocalConfig(deterministic=True, cache=tmp_path))
        asks = [Ask(str(i), f"Text: it went {way}\nAnswer:", (0,)) for i, way in enumerate(("up", "down"))]
        try:
            return [path.word_logprobs for path in teacher.answer(PREFIX, 0, asks, READING, 0)]
        finally:
            teacher.close()

    first = answers()
    (file,) = tmp_path.glob("*.kv")
    kept = file.read_bytes()
    assert answers() == first
    file.write_bytes(kept[:-100])
    assert answers() == first
    assert file.read_bytes() == kept
