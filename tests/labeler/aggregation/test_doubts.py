"""A person is told what stands between the labels and trusting them, and nothing where all is well."""

import numpy as np
import pytest
from scipy.special import softmax

from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig
from potstill.labeler.aggregation.doubts import doubts
from potstill.labeler.aggregation.path_table import read_paths

PRIOR = "each prompt's preference for single labels is estimated on the 100 texts of this run and taken out until the labels' shares are "


def told(stored, share, config=DEFAULTS, mass=0.9, n_thin=0, **settings):
    """The doubts about 100 texts of which that share is voted up; the first few have hardly any label mass."""
    table = {}
    for i in range(100):
        probs = np.array([0.8, 0.2] if i < 100 * share else [0.2, 0.8])
        table[f"{i:03d}"] = [(0, tuple(probs * (0.04 if i < n_thin else mass)))]
    store, run = stored(table, **settings)
    return doubts(read_paths(store, run), run.settings, config)


def test_an_even_prior_is_named_and_how_to_state_another(stored):
    assert told(stored, 0.5) == [PRIOR + "even; state known shares with --prior"]


def test_a_stated_prior_is_named(stored):
    assert told(stored, 0.5, DeriveConfig(prior={"up": 0.4, "down": 0.6})) == [PRIOR + "the stated ones"]


@pytest.mark.parametrize("method", ["votes", "mean"])
def test_methods_without_calibration_need_no_prior(stored, method):
    assert told(stored, 0.5, DeriveConfig(method=method)) == []


def test_label_words_that_do_not_fit_are_named(stored):
    line = "21% of the paths give all label words together a probability below 0.05: the words do not fit the teacher; choose others in task.toml (now: up, down)"
    assert told(stored, 0.5, DeriveConfig(method="mean"), n_thin=21) == [line]


def test_a_fifth_of_unreadable_paths_is_still_let_pass(stored):
    assert told(stored, 0.5, DeriveConfig(method="mean"), n_thin=20) == []


@pytest.mark.parametrize(("share", "found"), [(0.95, "up 95%"), (0.99, "up 99%, down 1%"), (0.01, "up 1%, down 99%")])
def test_a_biased_teacher_is_named(stored, share, found):
    line = f"the teacher is biased (shares of its own votes: {found}); do not use the methods votes and mean"
    assert told(stored, share, DeriveConfig(method="votes")) == [line]


def test_with_many_labels_a_rare_one_is_no_bias(stored):
    names = [f"l{i}" for i in range(70)]
    table = {f"{i:04d}": [(0, tuple(softmax(5 * np.eye(70)[i % 70])))] for i in range(700)}
    store, run = stored(table, labels=names)
    assert doubts(read_paths(store, run), run.settings, DeriveConfig(method="votes")) == []
