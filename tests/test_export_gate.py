from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from contract.errors import UserError
from export import gate
from export.gate import EXTRA_PADDING, Form, padded, problem

FLOAT = Form(
    variant="float", n=200, macro_f1=0.8, log_loss=0.5, ece=0.1, agreement=1.0, prob_change_max=0.0, batch_change_max=0.0, bytes=100
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"macro_f1": 0.795, "agreement": 0.98}, ""),
        ({"macro_f1": 0.9}, ""),
        ({"macro_f1": 0.7949}, "macro-F1 0.7949 is 0.0051 below float, at most 0.005 is allowed"),
        ({"macro_f1": float("nan")}, "macro-F1 nan is nan below float, at most 0.005 is allowed"),
        ({"agreement": 0.975}, "0.9750 of 200 texts keep float's label, at least 0.98 must"),
    ],
)
def test_a_form_passes_up_to_the_limit_and_fails_with_its_numbers_beyond(changes, expected):
    assert problem(msgspec.structs.replace(FLOAT, **changes), FLOAT, 0.005, 0.98) == expected


def test_a_padded_batch_masks_what_it_adds_and_is_longer_than_its_longest_text():
    feeds = [
        {"input_ids": np.full((1, n), n), "attention_mask": np.ones((1, n), int), "token_type_ids": np.ones((1, n), int)}
        for n in (3, 5)
    ]
    batch = padded(feeds, pad_id=7)
    assert {value.shape for value in batch.values()} == {(2, 5 + EXTRA_PADDING)}
    assert batch["attention_mask"].sum(axis=1).tolist() == [3, 5]
    assert batch["input_ids"][0].tolist() == [3] * 3 + [7] * (2 + EXTRA_PADDING)
    assert batch["token_type_ids"][0].sum() == 3


@pytest.mark.parametrize("wrong", [0.1, float("nan")])
def test_a_float_graph_that_is_not_torch_is_refused(monkeypatch, wrong):
    right = np.array([[0.2, 0.1]], dtype=np.float32)
    monkeypatch.setattr(gate, "torch_logits", lambda checkpoint, feeds: right)
    assert gate.check_parity(Path("ck"), [{}], right) == 0
    with pytest.raises(UserError, match="^ck: its float graph differs from torch by .* in a probability; at most 0.001 is right$"):
        gate.check_parity(Path("ck"), [{}], right + np.array([[wrong, 0]], dtype=np.float32))
