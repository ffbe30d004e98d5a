"""Loaded graphs are checked against torch and for int8 products; times are measured once and cached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.tiny_checkpoint import a_graph
from tokenizers import Tokenizer, models, pre_tokenizers

from potstill.contract.errors import UserError
from potstill.export.config import DYNAMIC, STATIC
from potstill.export.gate import graph_checks
from potstill.export.gate.graph_checks import wrong_products
from potstill.export.gate.speed import N_TEXTS, answer_times, cache_folder
from potstill.serve.runtime.tokenizer import TextTokenizer

# Graphs


@pytest.mark.parametrize(
    ("variant", "operators", "expected"),
    [
        (STATIC, {"MatMulIntegerToFloat": 3, "MatMul": 2}, ""),
        (STATIC, {}, "0 of 3 products run in int8 when loaded (0 became MatMulNBits, 3 stayed float), which is slower than float"),
        (
            STATIC,
            {"MatMulNBits": 2, "MatMulIntegerToFloat": 1},
            "1 of 3 products run in int8 when loaded (2 became MatMulNBits, 0 stayed float), which is slower than float",
        ),
        (
            STATIC,
            {"MatMulIntegerToFloat": 3, "MatMulNBits": 1},
            "3 of 3 products run in int8 when loaded (1 became MatMulNBits, 0 stayed float), which is slower than float",
        ),
        (DYNAMIC, {"DynamicQuantizeMatMul": 2, "MatMulIntegerToFloat": 1}, ""),
        (
            STATIC,  # ranges taken from the batch are not static
            {"DynamicQuantizeMatMul": 2, "MatMulIntegerToFloat": 1},
            "1 of 3 products run in int8 when loaded (0 became MatMulNBits, 2 stayed float), which is slower than float",
        ),
    ],
)
def test_a_graph_passes_when_all_its_products_and_only_those_are_int8(variant, operators, expected):
    assert wrong_products(variant, operators, 3) == expected


@pytest.mark.parametrize("wrong", [0.1, float("nan")])
def test_a_float_graph_that_is_not_torch_is_refused(monkeypatch, wrong):
    right = np.array([[0.2, 0.1]], dtype=np.float32)
    monkeypatch.setattr(graph_checks, "torch_logits", lambda checkpoint, feeds: right)
    assert graph_checks.check_parity(Path("ck"), [{}], right) == 0
    with pytest.raises(
        UserError, match="^ck: its float graph differs from torch by .* in a probability; at most 0.001 is allowed$"
    ):
        graph_checks.check_parity(Path("ck"), [{}], right + np.array([[wrong, 0]], dtype=np.float32))


# Times


@pytest.fixture
def form(tmp_path):
    """A model file with its tokenizer."""
    path = tmp_path / "model.onnx"
    path.write_bytes(a_graph().SerializeToString())
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return path, TextTokenizer(tokenizer.to_str().encode(), 16, ["input_ids"])


TEXTS = [("a b", None), ("b", None)]


def test_a_second_timing_comes_from_the_cache(form, tmp_path):
    first = answer_times({"one": form, "two": form}, TEXTS, tmp_path / "times")
    assert set(first) == {"one", "two"} and all(time > 0 for time in first.values())
    assert answer_times({"one": form, "two": form}, TEXTS, tmp_path / "times") == first
    assert len(list((tmp_path / "times").iterdir())) == 1


def test_another_model_or_another_text_is_timed_again(form, tmp_path):
    answer_times({"one": form}, TEXTS, tmp_path / "times")
    answer_times({"one": form}, TEXTS[:1], tmp_path / "times")
    form[0].write_bytes(form[0].read_bytes() + b"\x72\x00")  # an empty metadata entry: the same model in other bytes
    answer_times({"one": form}, TEXTS, tmp_path / "times")
    assert len(list((tmp_path / "times").iterdir())) == 3


def test_a_damaged_cache_is_replaced_and_one_that_cannot_be_written_is_done_without(form, tmp_path):
    answer_times({"one": form}, TEXTS, tmp_path / "times")
    kept = next((tmp_path / "times").iterdir())
    kept.write_text("{")
    assert answer_times({"one": form}, TEXTS, tmp_path / "times")["one"] > 0 and kept.read_text() != "{"
    (tmp_path / "file").touch()
    assert answer_times({"one": form}, TEXTS * N_TEXTS, tmp_path / "file" / "times")["one"] > 0


def test_times_are_cached_in_the_user_s_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "potstill" / "answer_times"
