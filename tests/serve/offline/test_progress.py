"""Whatever answers a file with a bundle tells how many of its texts are answered, and that golden texts are replayed."""

import pytest
from support.tiny_bundle import LABELS, write_bundle, write_gold

from potstill.contract.scores import prior_shift
from potstill.contract.scores.record import Score
from potstill.contract.system.progress import ANSWER_TEXTS, watched_by
from potstill.contract.texts import read_texts
from potstill.serve.config import AdaptConfig, CascadeConfig, CertifyConfig, ChecksConfig, SharesConfig
from potstill.serve.offline.adapt import adapt_bundle
from potstill.serve.offline.cascade import cascade_bundle
from potstill.serve.offline.certify import certify_bundle
from potstill.serve.offline.checks import check_bundle
from potstill.serve.offline.shares import shares_of

N = 60
BOTH = [f"{ANSWER_TEXTS} with the {name} bundle" for name in ("fast", "exact")]
CALLS = {
    "certify": (lambda bundle, gold, out: certify_bundle(bundle, gold, out, CertifyConfig(accuracy=0.1)), [ANSWER_TEXTS]),
    "shares": (lambda bundle, gold, out: shares_of(bundle, gold, gold, SharesConfig()), [ANSWER_TEXTS]),
    "adapt": (lambda bundle, gold, out: adapt_bundle(bundle, gold, out, AdaptConfig(level=1)), [ANSWER_TEXTS]),
    "cascade": (lambda bundle, gold, out: cascade_bundle(bundle, bundle, gold, out, CascadeConfig(max_loss=1, rule="point")), BOTH),
    "check": (lambda bundle, gold, out: check_bundle(bundle, gold, None, ChecksConfig(0.01, 1e6)), [ANSWER_TEXTS, "time answers"]),
}


@pytest.fixture
def few_resamples(monkeypatch):
    """The intervals of the shares are tested elsewhere; here they only take time."""
    monkeypatch.setattr(prior_shift, "N_RESAMPLES", 10)


@pytest.mark.parametrize(("call", "stages"), CALLS.values(), ids=CALLS)
def test_answered_texts_are_counted(tmp_path, few_resamples, call, stages):
    shares = dict.fromkeys(LABELS, 1 / len(LABELS))
    held_out = {"validation": {"accuracy": Score(value=0.8, low=0.7, high=0.9, n=100)}}
    bundle = write_bundle(tmp_path / "bundle", label_shares=shares, scores=held_out)
    gold = write_gold(tmp_path / "gold.jsonl", bundle, 0, 1.0, N)
    told = []
    with watched_by(lambda *one: told.append(one)):
        call(bundle, gold, tmp_path / "out")
    n = len(read_texts(gold).texts)
    counted = [stage for stage in stages if stage != "time answers"]
    assert [one for one in told if one[1:] == (n, n)] == [(stage, n, n) for stage in counted]
    assert [one for one in told if one[1:] == (0, n)] == [(stage, 0, n) for stage in counted]
    assert ("replay 3 golden texts", 0, 0) in told
    assert {stage for stage, *_ in told} >= set(stages)
