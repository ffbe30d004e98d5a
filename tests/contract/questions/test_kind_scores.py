"""The metrics of each kind against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as sk

from potstill.contract.questions.kind_scores import difference_of, kind_metrics, scores_of

RNG = np.random.default_rng(3)
N = 400
GOLD = RNG.integers(0, 4, N)
DEGREE = RNG.dirichlet(np.ones(4), N) * 0.6 + 0.4 * np.eye(4)[GOLD]
TAGS_GOLD = (RNG.random((N, 5)) < [0.5, 0.3, 0.2, 0.1, 0.02]).astype(int)
TAGS = np.round(np.clip(0.5 * TAGS_GOLD + 0.6 * RNG.random((N, 5)), 0, 1), 2)  # rounded: many are equal
YES = RNG.integers(0, 2, N)
P_YES = np.round(np.clip(0.3 * (YES == 0) + 0.7 * RNG.random(N), 0, 1), 2)


def test_tags_are_scored_as_scikit_learn_does():
    found = {name: metric(TAGS, TAGS_GOLD) for name, metric in kind_metrics("tags").items()}
    held = TAGS >= 0.5
    assert found["micro_f1"] == pytest.approx(sk.f1_score(TAGS_GOLD, held, average="micro"))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(TAGS_GOLD, held, average="macro"))
    assert found["map"] == pytest.approx(sk.average_precision_score(TAGS_GOLD, TAGS, average="macro"))
    assert found["subset_accuracy"] == pytest.approx(sk.accuracy_score(TAGS_GOLD, held))
    assert found["brier"] == pytest.approx(np.mean([sk.brier_score_loss(TAGS_GOLD[:, c], TAGS[:, c]) for c in range(5)]))


def test_thresholds_decide_which_tags_hold():
    least = [0.9, 0.4, 0.5, 0.5, 0.1]
    found = kind_metrics("tags", thresholds=least)
    assert found["micro_f1"](TAGS, TAGS_GOLD) == pytest.approx(sk.f1_score(TAGS_GOLD, np.array(least) <= TAGS, average="micro"))


def test_the_area_under_the_curve_counts_ties_half():
    probs = np.stack([P_YES, 1 - P_YES], axis=1)
    assert kind_metrics("yesno")["auc"](probs, YES) == pytest.approx(sk.roc_auc_score(YES == 0, P_YES))


def test_degrees_are_scored_by_distance():
    found = kind_metrics("degree", values=[0.0, 1.0, 2.0, 5.0])
    assert found["qwk"](DEGREE, GOLD) == pytest.approx(sk.cohen_kappa_score(GOLD, DEGREE.argmax(axis=1), weights="quadratic"))
    worth = np.array([0.0, 1.0, 2.0, 5.0])
    assert found["mae"](DEGREE, GOLD) == pytest.approx(sk.mean_absolute_error(worth[GOLD], DEGREE @ worth))
    assert kind_metrics("degree")["mae"](np.eye(4)[GOLD], GOLD) == 0


def test_a_level_everywhere_is_no_better_than_chance():
    assert kind_metrics("degree")["qwk"](np.tile([0.1, 0.9, 0.0, 0.0], (N, 1)), GOLD) == pytest.approx(0)


@pytest.mark.parametrize(("kind", "probs", "gold"), [("tags", TAGS, TAGS_GOLD), ("degree", DEGREE, GOLD)])
def test_every_score_has_an_interval_around_it(kind, probs, gold):
    for name, score in scores_of(kind, probs, gold).items():
        assert score.low <= score.value <= score.high or name == "ece", name  # the error of bins is biased upwards
        assert score.n == N


def test_the_difference_of_equal_answers_is_nothing_and_of_better_ones_above_it():
    metric = kind_metrics("tags")["macro_f1"]
    same = difference_of(metric, TAGS, TAGS, TAGS_GOLD)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = difference_of(metric, TAGS_GOLD.astype(float), TAGS, TAGS_GOLD)
    assert better.low > 0


def test_no_text_is_no_score():
    with pytest.raises(ValueError, match="no text to score"):
        scores_of("yesno", np.empty((0, 2)), np.empty(0, dtype=int))


def test_a_metric_that_the_texts_do_not_give_is_left_out():
    one_kind = np.zeros(N, dtype=int)
    probs = np.stack([P_YES, 1 - P_YES], axis=1)
    assert "auc" in scores_of("yesno", probs, YES) and "auc" not in scores_of("yesno", probs, one_kind)
    assert "map" not in scores_of("tags", TAGS, np.zeros_like(TAGS_GOLD))


def test_where_no_text_has_a_tag_the_other_metrics_are_there_and_nothing_warns():
    found = scores_of("tags", np.full((5, 2), 0.3), np.zeros((5, 2), dtype=np.int64))
    assert found["subset_accuracy"].value == 1.0
