"""Dawid and Skene's model, against another implementation and in cases whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation import DawidSkene

from potstill.contract.texts import Text
from potstill.labeler.weak_supervision.config import DawidSkeneConfig
from potstill.labeler.weak_supervision.label_models import dawid_skene as model
from potstill.labeler.weak_supervision.label_models.dawid_skene import dawid_skene
from potstill.labeler.weak_supervision.label_models.majority import majority
from potstill.labeler.weak_supervision.votes import source_votes, vote_table

pytestmark = pytest.mark.slow

LABELS = ["a", "b", "c"]
EVEN = np.full(3, 1 / 3)
PAPER = DawidSkeneConfig(strength=0)


def some_texts(n):
    return [Text(f"text {i}", str(i)) for i in range(n)]


def people(n=400, accuracies=(0.85, 0.7, 0.6, 0.55, 0.5), asked=0.7, seed=0):
    """(gold [N], votes of people who are each asked about a part of the texts, the same votes as crowd-kit takes them)."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 3, n)
    sources, rows = [], []
    for number, accuracy in enumerate(accuracies):
        votes = {}
        for i in np.flatnonzero(rng.random(n) < asked):
            said = LABELS[gold[i] if rng.random() < accuracy else rng.integers(0, 3)]
            votes[str(i)] = {said: 1.0}
            rows.append((str(i), f"w{number}", said))
        sources.append(source_votes(f"w{number}", "people", some_texts(n), LABELS, votes))
    return gold, vote_table(some_texts(n), LABELS, sources), pd.DataFrame(rows, columns=["task", "worker", "label"])


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # crowd-kit's own
def test_labels_and_confusion_are_those_of_crowd_kit():
    _, votes, rows = people()
    found = dawid_skene(votes, majority(votes, EVEN), config=PAPER)
    other = DawidSkene(n_iter=1000, tol=1e-12)
    theirs = other.fit_predict_proba(rows)
    known = [i for i in range(400) if str(i) in theirs.index]
    np.testing.assert_allclose(found.probs[known], theirs.loc[[str(i) for i in known], LABELS].to_numpy(), atol=1e-3)
    for number, confusion in enumerate(found.confusion):
        np.testing.assert_allclose(confusion[:, :3].T, other.errors_.loc[f"w{number}"].loc[LABELS, LABELS].to_numpy(), atol=1e-3)
        np.testing.assert_array_equal(confusion[:, 3], 0)  # nobody abstained: those who were not asked said nothing


def test_a_round_never_makes_the_votes_less_likely():
    for seed in range(3):
        _, votes, _ = people(seed=seed)
        found = dawid_skene(votes, majority(votes, EVEN), config=PAPER)
        assert found.converged and np.diff(found.log_likelihoods).min() > -1e-9


def test_who_is_right_more_often_counts_more_than_the_majority():
    gold, votes, _ = people(n=1500, accuracies=(0.95, 0.95, 0.4, 0.4, 0.4), asked=1.0)
    start = majority(votes, EVEN)
    found = dawid_skene(votes, start)
    assert np.mean(found.probs.argmax(axis=1) == gold) > np.mean(start.argmax(axis=1) == gold) + 0.03
    rights = found.confusion[:, range(3), range(3)].mean(axis=1)
    assert rights[:2].min() > 0.9 and rights[2:].max() < 0.7


def rule(name, label, fires, n):
    """A rule that fires on these texts."""
    return source_votes(name, "rule", some_texts(n), LABELS, {str(i): {label: 1.0} if i in fires else None for i in range(n)})


def test_a_rule_that_knows_one_label_says_something_although_it_never_says_another():
    n = 600
    gold, votes, _ = people(n=n, accuracies=(0.5, 0.5, 0.5), asked=1.0, seed=1)
    rng = np.random.default_rng(2)
    fires = {i for i in range(n) if gold[i] == 0 and rng.random() < 0.6}
    ruled = vote_table(votes.texts, LABELS, [*votes.sources, rule("r", "a", fires, n)])
    without, found = (dawid_skene(one, majority(one, EVEN), config=DawidSkeneConfig(strength=10)) for one in (votes, ruled))
    assert np.mean(found.probs.argmax(axis=1) == gold) > np.mean(without.probs.argmax(axis=1) == gold) + 0.03
    assert found.confusion[3, 0, 0] == pytest.approx(0.6, abs=0.15) and found.confusion[3, 1:, 0].max() < 0.1
    quiet = sorted(set(range(n)) - fires)  # its silence speaks against the label, too
    assert found.probs[quiet, 0].mean() < without.probs[quiet, 0].mean()


def test_a_source_that_was_not_asked_changes_nothing():
    _, votes, _ = people(asked=1.0)
    half = {str(i): {"a": 1.0} for i in range(0, 400, 2)}
    more = vote_table(votes.texts, LABELS, [*votes.sources, source_votes("half", "answers", votes.texts, LABELS, half)])
    found = dawid_skene(more, majority(more, EVEN), EVEN)
    said = found.confusion[-1]
    np.testing.assert_allclose(said[:, 0] + said[:, 1:3].sum(axis=1) + said[:, 3], 1)
    assert said[:, 3].max() < 0.01  # silence about the other half is not counted as an abstention


def test_a_source_whose_votes_are_even_distributions_says_nothing():
    _, votes, _ = people(asked=1.0)
    shrug = source_votes("shrug", "teacher", votes.texts, LABELS, {str(i): dict.fromkeys(LABELS, 1.0) for i in range(400)})
    more = vote_table(votes.texts, LABELS, [*votes.sources, shrug])
    start = majority(votes, EVEN)
    np.testing.assert_allclose(dawid_skene(more, start, EVEN).probs, dawid_skene(votes, start, EVEN).probs, atol=1e-3)


def test_a_distribution_that_is_sure_counts_as_the_vote():
    _, votes, _ = people(asked=1.0)
    start = majority(votes, EVEN)
    near = [source_votes(s.name, "teacher", votes.texts, LABELS, sure(s)) for s in votes.sources]
    soft = dawid_skene(vote_table(votes.texts, LABELS, near), start, config=PAPER)
    np.testing.assert_allclose(soft.probs, dawid_skene(votes, start, config=PAPER).probs, atol=1e-3)


def sure(source):
    """Votes with a millionth for the other labels."""
    return {str(i): {label: p + 1e-6 for label, p in zip(LABELS, row, strict=True)} for i, row in enumerate(source.probs)}


def test_stated_shares_stay_and_others_are_estimated():
    gold, votes, _ = people(n=1500)
    stated = np.array([0.5, 0.3, 0.2])
    np.testing.assert_array_equal(dawid_skene(votes, majority(votes, EVEN), stated).prior, stated)
    estimated = dawid_skene(votes, majority(votes, EVEN)).prior
    np.testing.assert_allclose(estimated, np.bincount(gold) / len(gold), atol=0.06)


def test_with_much_belief_a_handful_of_votes_does_not_make_a_rule_certain():
    n = 300
    _, votes, _ = people(n=n, accuracies=(0.6,), asked=1.0)
    three = {int(i) for i in np.flatnonzero(votes.sources[0].probs[:, 0] == 1)[:3]}
    more = vote_table(votes.texts, LABELS, [*votes.sources, rule("r", "a", three, n)])
    start = majority(more, EVEN)
    rows = sorted(three)
    believed = dawid_skene(more, start, EVEN, DawidSkeneConfig(accuracy=0.7, strength=1000))
    share = believed.confusion[-1, 0, 0] / believed.confusion[-1, :, 0].sum()
    assert share == pytest.approx(0.7, abs=0.02)  # of what the rule says, so much is right
    assert believed.probs[rows, 0].mean() < dawid_skene(more, start, EVEN, PAPER).probs[rows, 0].mean()


def test_a_text_that_nobody_voted_on_has_the_labels_shares():
    texts = some_texts(3)
    votes = vote_table(texts, LABELS, [source_votes("w", "people", texts, LABELS, {"0": {"a": 1.0}, "1": {"b": 1.0}})])
    stated = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(dawid_skene(votes, majority(votes, stated), stated).probs[2], stated)


def test_it_says_when_it_stopped_before_it_was_done(monkeypatch):
    _, votes, _ = people()
    monkeypatch.setattr(model, "MAX_ROUNDS", 2)
    assert not dawid_skene(votes, majority(votes, EVEN)).converged
