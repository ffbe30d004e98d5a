from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from potstill.contract.errors import UserError
from potstill.export.gate import parity


@pytest.mark.parametrize("wrong", [0.1, float("nan")])
def test_a_float_graph_that_is_not_torch_is_refused(monkeypatch, wrong):
    right = np.array([[0.2, 0.1]], dtype=np.float32)
    monkeypatch.setattr(parity, "torch_logits", lambda checkpoint, feeds: right)
    assert parity.check_parity(Path("ck"), [{}], right) == 0
    with pytest.raises(UserError, match="^ck: its float graph differs from torch by .* in a probability; at most 0.001 is right$"):
        parity.check_parity(Path("ck"), [{}], right + np.array([[wrong, 0]], dtype=np.float32))
