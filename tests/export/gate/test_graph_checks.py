from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from potstill.contract.errors import UserError
from potstill.export.config import DYNAMIC, STATIC
from potstill.export.gate import graph_checks
from potstill.export.gate.graph_checks import wrong_products


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
            STATIC,  # ranges that are taken from the batch are no static form
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
    with pytest.raises(UserError, match="^ck: its float graph differs from torch by .* in a probability; at most 0.001 is right$"):
        graph_checks.check_parity(Path("ck"), [{}], right + np.array([[wrong, 0]], dtype=np.float32))
