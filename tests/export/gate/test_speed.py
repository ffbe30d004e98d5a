from __future__ import annotations

import pytest
from support.quantizable import a_graph
from tokenizers import Tokenizer, models, pre_tokenizers

from potstill.export.gate.speed import N_TEXTS, answer_times, cache_folder
from potstill.serve.runtime.tokenizer import TextTokenizer


@pytest.fixture
def form(tmp_path):
    """A model file with its tokenizer."""
    path = tmp_path / "model.onnx"
    path.write_bytes(a_graph().SerializeToString())
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return path, TextTokenizer(tokenizer.to_str().encode(), 16, ["input_ids"])


ASKS = [("a b", None), ("b", None)]


def test_what_was_measured_once_is_told_again(form, tmp_path):
    first = answer_times({"one": form, "two": form}, ASKS, tmp_path / "times")
    assert set(first) == {"one", "two"} and all(time > 0 for time in first.values())
    assert answer_times({"one": form, "two": form}, ASKS, tmp_path / "times") == first
    assert len(list((tmp_path / "times").iterdir())) == 1


def test_another_model_or_another_text_is_measured_anew(form, tmp_path):
    answer_times({"one": form}, ASKS, tmp_path / "times")
    answer_times({"one": form}, ASKS[:1], tmp_path / "times")
    form[0].write_bytes(form[0].read_bytes() + b"\x72\x00")  # an empty metadata entry: the same model in other bytes
    answer_times({"one": form}, ASKS, tmp_path / "times")
    assert len(list((tmp_path / "times").iterdir())) == 3


def test_a_damaged_memory_is_measured_anew_and_one_that_cannot_be_written_is_done_without(form, tmp_path):
    answer_times({"one": form}, ASKS, tmp_path / "times")
    kept = next((tmp_path / "times").iterdir())
    kept.write_text("{")
    assert answer_times({"one": form}, ASKS, tmp_path / "times")["one"] > 0 and kept.read_text() != "{"
    (tmp_path / "file").touch()
    assert answer_times({"one": form}, ASKS * N_TEXTS, tmp_path / "file" / "times")["one"] > 0


def test_the_memory_is_in_the_user_s_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "potstill" / "answer_times"
