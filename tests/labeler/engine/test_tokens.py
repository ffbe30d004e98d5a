"""Log-probabilities of label words are those of the softmax, and numbers."""

import numpy as np
import pytest
from scipy.special import log_softmax

from potstill.contract.errors import UserError
from potstill.labeler.engine.tokens import logprobs


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_log_probabilities_are_those_of_the_softmax(scale):
    logits = (np.random.default_rng(0).normal(size=1000) * scale).astype(np.float32)
    np.testing.assert_allclose(logprobs(logits, [3, 999]), log_softmax(logits.astype(np.float64))[[3, 999]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused_before_they_are_stored(bad):
    logits = np.zeros(10, dtype=np.float32)
    logits[7] = bad
    with pytest.raises(UserError) as caught:
        logprobs(logits, [0])
    expected = "its weights are damaged; check the file with: potstill models verify"
    assert str(caught.value) == f"the teacher's logits are {bad}: {expected}"
