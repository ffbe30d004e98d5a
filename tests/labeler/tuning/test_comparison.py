"""The cheapest trial that is as good as the best is chosen; cost counts tokens, and time leaves out what is paid once."""

from types import SimpleNamespace

import numpy as np
import pytest

from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.config import LabelConfig
from potstill.labeler.teacher import TeacherPath
from potstill.labeler.tuning.comparison import Trial, choose, token_cost
from potstill.labeler.tuning.gold_runs import PathTiming, Stopwatch

N = 100
GOLD = np.arange(N) % 2
ALL = np.ones(N, dtype=bool)


def trial(name: str, wrong: range | list[int], cost: int = 100) -> Trial:
    """Wrong about those texts, at that cost of all of them."""
    answers = GOLD.copy()
    answers[list(wrong)] = 1 - answers[list(wrong)]
    path = TeacherPath("a", 0, 0, 0, "", (), cost, 0)
    return Trial("g", name, LabelConfig(), DeriveConfig(), None, [path], np.eye(2)[answers], None)


@pytest.mark.parametrize(
    ("trials", "winner"),
    [
        ([trial("good", range(10)), trial("bad", range(40))], "good"),
        ([trial("bad but cheap", range(40), 10), trial("good", range(10))], "good"),
        ([trial("as good", range(11), 10), trial("good", range(10))], "as good"),
        ([trial("hardly cheaper", range(11), 95), trial("good", range(10))], "good"),
        ([trial("first", range(10)), trial("the same", range(10))], "first"),
    ],
)
def test_the_cheapest_within_one_standard_error_of_the_best_is_chosen(trials, winner):
    assert choose(trials, GOLD, ALL).winner.name == winner


def test_the_error_is_that_of_the_difference_on_the_same_texts():
    """Four texts in a hundred more are certainly worse where all other answers agree, and noise where they do not."""
    apart = trial("errs elsewhere", range(50, 64), 10)
    nested = trial("errs there and on four more", range(14), 10)
    assert choose([apart, trial("good", range(10))], GOLD, ALL).winner.name == "errs elsewhere"
    assert choose([nested, trial("good", range(10))], GOLD, ALL).winner.name == "good"


def test_only_the_texts_that_choose_are_looked_at():
    half = np.arange(N) < 50
    one, two = trial("good there", range(50, 100)), trial("good elsewhere", range(50))
    choice = choose([one, two], GOLD, half)
    assert (choice.winner.name, choice.best.name, choice.scores) == ("good there", "good there", [1.0, 0.0])


def test_the_cost_counts_a_prompt_once_per_variant_and_a_sampled_token_like_two_read_ones():
    def path(text_id, number, variant, n_prompt, n_generated):
        return TeacherPath(text_id, number, variant, 0, "", (), n_prompt, n_generated)

    paths = [path("a", 0, 0, 10, 3), path("a", 1, 0, 10, 4), path("a", 2, 1, 12, 0), path("b", 0, 0, 5, 1)]
    assert token_cost(paths) == 10 + 12 + 5 + 2 * (3 + 4 + 1)
    assert token_cost([]) == 0


# The time of a run's paths


@pytest.mark.parametrize(
    ("batches", "wanted"),
    [
        ([], PathTiming(0.0, 0)),
        ([(9.0, 10), (10.0, 30), (11.0, 50)], PathTiming(2.0, 40)),  # eight seconds of loading before the first paths
        ([(9.0, 10)], PathTiming(9.0, 10)),
        ([(9.0, 10), (10.0, 12)], PathTiming(10.0, 12)),  # hardly any came later
    ],
)
def test_the_clock_starts_with_the_first_paths_unless_those_were_most(monkeypatch, batches, wanted):
    now, told = [0.0], []
    monkeypatch.setattr("potstill.labeler.tuning.gold_runs.time.monotonic", lambda: now[0])
    watch = Stopwatch(told.append)
    for seconds, n_drawn in batches:
        now[0] = seconds
        watch(SimpleNamespace(n_drawn=n_drawn))
    assert watch.timed() == wanted
    assert [progress.n_drawn for progress in told] == [n for _, n in batches]


def test_sessions_add_up():
    assert PathTiming(1.0, 2) + PathTiming(3.0, 4) == PathTiming(4.0, 6)
