"""Candidates in the soft labels: laws of what a teacher's evidence does to what was believed before."""

import numpy as np
import pytest
from scipy.special import log_softmax

from potstill.labeler.aggregation.narrowed import FEW, brought_to, outside_probs, per_letter, posterior, preferences, with_rest

N, C, K = 400, 30, 8
RNG = np.random.default_rng(5)
LOG_PRIOR = log_softmax(RNG.normal(0, 2, (N, C)), axis=1)
ASKED = np.sort(LOG_PRIOR, axis=1)[:, [-K]] <= LOG_PRIOR
TEACHER = np.where(ASKED, RNG.normal(0, 1, (N, C)), -np.inf)
WEIGHTS = np.ones(N)


def test_a_teacher_that_says_nothing_changes_nothing():
    silent = np.where(ASKED, 0.0, -np.inf)
    np.testing.assert_allclose(posterior(silent, ASKED, LOG_PRIOR, WEIGHTS), LOG_PRIOR, atol=1e-5)


def test_what_was_not_asked_keeps_its_probability_and_everything_sums_to_one():
    found = posterior(TEACHER, ASKED, LOG_PRIOR, WEIGHTS)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(found[~ASKED], LOG_PRIOR[~ASKED], atol=1e-12)
    np.testing.assert_allclose(outside_probs(ASKED, found), outside_probs(ASKED, LOG_PRIOR), atol=1e-12)
    assert np.isfinite(found).all()


def test_a_constant_for_every_path_changes_nothing():
    found = posterior(TEACHER, ASKED, LOG_PRIOR, WEIGHTS)
    np.testing.assert_allclose(posterior(TEACHER + RNG.normal(0, 5, (N, 1)), ASKED, LOG_PRIOR, WEIGHTS), found, atol=1e-9)


def test_a_preference_for_one_label_is_taken_out_the_more_the_oftener_it_was_offered():
    evidence = log_softmax(TEACHER, axis=1)
    preferred = evidence.copy()
    preferred[:, 0] += 3.0
    preferred = log_softmax(np.where(ASKED, preferred, -np.inf), axis=1)
    plain, tamed = (e + preferences(e, ASKED, WEIGHTS) for e in (evidence, preferred))
    rows = np.flatnonzero(ASKED[:, 0])
    other = np.array([np.flatnonzero(ASKED[row])[-1] for row in rows])
    left = (tamed[rows, 0] - tamed[rows, other]) - (plain[rows, 0] - plain[rows, other])
    kept = FEW / (len(rows) + FEW)
    assert left.mean() == pytest.approx(3.0 * kept, abs=0.35)
    assert 0 < kept < 0.25


def test_a_label_offered_once_keeps_what_the_teacher_says_of_it():
    asked, teacher = ASKED.copy(), TEACHER.copy()
    asked[1:, 0], teacher[1:, 0] = False, -np.inf
    asked[0, 0], teacher[0, 0] = True, 6.0
    evidence = log_softmax(np.where(asked, teacher, -np.inf), axis=1)
    assert abs(preferences(evidence, asked, WEIGHTS)[0]) < 6.0 / FEW


def test_a_label_that_was_never_offered_has_the_probability_it_had():
    asked, teacher = ASKED.copy(), TEACHER.copy()
    asked[:, 3], teacher[:, 3] = False, -np.inf
    found = posterior(teacher, asked, LOG_PRIOR, WEIGHTS)
    np.testing.assert_allclose(found[:, 3], LOG_PRIOR[:, 3], atol=1e-12)


@pytest.mark.parametrize("repeats", [1, 2, 5])
def test_length_alone_makes_no_name_less_probable(repeats):
    word = "card not working"
    long = " ".join([word] * repeats)
    per_token = -1.5  # nats, for every four letters
    n_letters = len(word.replace(" ", ""))
    logprobs = np.array([[per_token * n_letters / 4, per_token * repeats * n_letters / 4]])
    np.testing.assert_allclose(per_letter(logprobs, [word, long]), per_token)


def test_a_word_without_letters_counts_and_what_was_not_asked_stays_so():
    assert per_letter(np.array([[-2.0, -np.inf]]), [" ", "up"]).tolist() == [[-8.0, -np.inf]]


def test_distributions_over_candidates_are_made_whole():
    found = with_rest(log_softmax(TEACHER, axis=1), LOG_PRIOR)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(found[~ASKED], LOG_PRIOR[~ASKED], atol=1e-12)


@pytest.mark.parametrize("stated", [True, False])
def test_stated_shares_are_reached_and_guessed_ones_in_part(stated):
    shares = np.full(C, 0.6 / (C - 1))
    shares[2] = 0.4
    found = np.exp(brought_to(LOG_PRIOR, shares, WEIGHTS, stated=stated)).mean(axis=0)
    before = np.exp(LOG_PRIOR).mean(axis=0)
    if stated:
        np.testing.assert_allclose(found, shares, atol=1e-5)
    else:
        assert before[2] + 0.05 < found[2] < shares[2] - 0.05
