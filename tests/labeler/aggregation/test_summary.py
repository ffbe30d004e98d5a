"""The summary's figures are those of the soft labels, and it fits a terminal."""

import numpy as np
import pytest
from scipy.special import softmax

from potstill.contract.errors import UserError
from potstill.contract.scores import metrics
from potstill.labeler.aggregation.calibration import batch_calibrated
from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig
from potstill.labeler.aggregation.soft_labels import soft_labels
from potstill.labeler.aggregation.summary import summary
from potstill.labeler.aggregation.summary_text import as_text

pytestmark = pytest.mark.slow

LABELS = ["bullish", "bearish", "neutral"]
PRIOR = {"bullish": 0.4, "bearish": 0.3, "neutral": 0.3}


@pytest.fixture
def run(stored):
    """60 texts, half of them with gold, three variants, the third asked about 40 texts; a cascade whose last variant reasons."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 3, 60)
    table = {}
    for i in range(60):
        logits = 1.5 * np.eye(3)[gold[i]] + rng.normal(size=(5, 3)) + np.array([3, 0, 0])
        variants = [0, 1] + ([2, 2, 2] if i < 40 else [])
        table[f"{i:02d}"] = [(v, tuple(0.8 * softmax(row))) for v, row in zip(variants, logits)]
    known = {f"{i:02d}": LABELS[gold[i]] for i in range(0, 60, 2)}
    return stored(table, known, labels=LABELS, mode="cascade", n_direct=2, n_variants=3)


def test_every_method_is_there_with_the_scores_of_its_soft_labels(run):
    found = summary(*run, DeriveConfig(prior=PRIOR))
    assert [row.name.partition("(")[0] for row in found.methods] == [
        "calibrated",
        "majority",
        "votes",
        "mean",
        "matched",
        "affine",
        "calibrated",
    ]
    assert found.methods[-1].name.endswith("+agreement")
    assert (found.n_texts, found.n_paths, found.n_gold, found.left_out) == (60, 240, 30, [])
    for row, method in zip(found.methods, ("calibrated", "majority", "votes", "mean", "matched", "affine")):
        labels = soft_labels(*run, DeriveConfig(method=method, prior=None if method in ("votes", "mean") else PRIOR))
        assert row.name == labels[0].method
        gold = [label for label in labels if label.gold]
        probs = np.array([list(label.probs.values()) for label in gold])
        assert row.scores == metrics.scores(probs, np.array([LABELS.index(label.gold) for label in gold]))
        tops = [max(label.probs, key=label.probs.get) for label in labels]
        assert row.shares == {name: pytest.approx(tops.count(name) / 60) for name in LABELS}


def test_without_a_stated_prior_matched_is_left_out_with_the_reason(run):
    (line,) = summary(*run, DEFAULTS).left_out
    assert line.startswith("method matched needs the labels' shares; state them, for example: --prior bullish=0.33,")


def test_without_gold_there_are_no_scores_and_no_affine(stored):
    found = summary(*stored({"a": [(0, (0.6, 0.4))], "b": [(0, (0.3, 0.6))]}), DEFAULTS)
    assert [row.name for row in found.methods] == ["calibrated", "majority", "votes", "mean"]
    assert all(row.scores is None for row in found.methods)
    assert "no gold texts, so no scores; label some with --gold" in as_text(found)


def test_layers_on_a_gpu_and_the_type_of_the_cache_are_named_where_they_are_not_the_usual_ones(stored):
    table = {"a": [(0, (0.6, 0.4))], "b": [(0, (0.3, 0.6))]}
    assert "\n  17 layers on a GPU, cache q8_0\n" in as_text(summary(*stored(table, gpu_layers=17, kv_type="q8_0"), DEFAULTS))


def test_with_too_little_gold_affine_is_left_out_with_the_reason(stored):
    table = {str(i): [(0, (0.6, 0.4) if i % 2 else (0.3, 0.6))] for i in range(9)}
    found = summary(*stored(table, {"1": "up"}), DEFAULTS)
    assert "method affine needs at least 10 texts with gold, and the run has 1; label with --gold" in found.left_out


def test_variants_are_shown_by_themselves(run):
    rows = summary(*run, DEFAULTS).variants
    assert [(row.number, row.mode, row.n_texts, row.n_paths) for row in rows] == [
        (0, "direct", 60, 60),
        (1, "direct", 60, 60),
        (2, "cot", 40, 120),
    ]
    assert all(row.favourite == "bullish" and row.favourite_share > 0.8 for row in rows)
    assert [row.accuracy.n for row in rows] == [30, 30, 20]


def test_a_prompt_is_paid_once_a_variant_and_a_rationale_once_a_path(run):
    direct, cot = summary(*run, DEFAULTS).cost
    assert (direct.mode, direct.n_texts, direct.paths_per_text, direct.prompt_tokens_per_text) == ("direct", 60, 2, 10)
    assert (cot.mode, cot.n_texts, cot.paths_per_text, cot.prompt_tokens_per_text, cot.generated_tokens_per_text) == (
        "cot",
        40,
        3,
        5,
        21,
    )


def test_agreement_counts_every_text_once(run):
    found = summary(*run, DEFAULTS).agreement
    rows = soft_labels(*run)
    assert sum(found.values()) == 60
    assert found["1.0"] == sum(row.agreement > 0.9 for row in rows)
    assert found["0.6"] == sum(0.5 < row.agreement <= 0.6 for row in rows)


@pytest.mark.parametrize("config", [DEFAULTS, DeriveConfig(prior=PRIOR), DeriveConfig(prior=PRIOR, smooth=12)])
def test_it_fits_in_100_columns(run, config):
    text = as_text(summary(*run, config))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert ("calibrated+smooth12" in text) == bool(config.smooth)
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_a_prior_that_makes_no_sense_is_refused(run):
    with pytest.raises(UserError, match="prior: lacks 'neutral'"):
        summary(*run, DeriveConfig(prior={"bullish": 0.5, "bearish": 0.5}))


def test_paths_are_calibrated_once_for_all_methods(run, monkeypatch):
    """Over 200,000 paths that was most of a summary's time."""
    seen = []

    def noted(logprobs, prior, *weights):
        seen.append((logprobs.tobytes(), prior.tobytes()))
        return batch_calibrated(logprobs, prior, *weights)

    monkeypatch.setattr("potstill.labeler.aggregation.soft_labels.batch_calibrated", noted)
    summary(*run, DeriveConfig(prior=PRIOR))
    assert len(seen) >= 3 and len(seen) == len(set(seen))
