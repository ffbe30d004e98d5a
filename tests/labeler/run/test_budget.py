"""Labelling in time: rounds that end in time whatever a text takes, each with its soft labels, in the order of use."""

import itertools

import pytest

from potstill.contract.texts import Text
from potstill.labeler.run import budget
from potstill.labeler.run.budget import TimeBudget, label_in_time
from potstill.labeler.run.label import LabelReport

TEXTS = [Text(f"text {i}", str(i)) for i in range(1000)]


class Clock:
    """A machine on which a text takes a stated time, and its clock."""

    def __init__(self, monkeypatch, text_s, settle_s=0.0, round_s=0.0):
        self.now, self.text_s, self.settle_s, self.round_s = 100.0, text_s, settle_s, round_s
        self.asked, self.settled, self.done = [], [], 0
        monkeypatch.setattr(budget.time, "monotonic", lambda: self.now)

    def ask(self, texts, ends_at):
        before = self.done
        self.asked.append(len(texts))
        self.now += self.round_s
        while self.done < len(texts):
            if self.now + self.text_s(self.done) > ends_at:
                break
            self.now += self.text_s(self.done)
            self.done += 1
        return LabelReport(None, len(texts), self.done, self.done - before, 0, 0, 0.0, self.done == len(texts))

    def settle(self, run):
        self.now += self.settle_s * self.done
        self.settled.append(self.done)


@pytest.mark.parametrize("guess", [None, 0.1, 0.02, 1.0])
@pytest.mark.parametrize(
    "text_s",
    [lambda i: 0.1, lambda i: 0.05 if i % 2 else 0.2, lambda i: 0.1 if i < 150 else 0.25, lambda i: 0.12 if i < 200 else 0.04],
)
def test_it_ends_in_time_and_leaves_little_time_unused(monkeypatch, text_s, guess):
    clock = Clock(monkeypatch, text_s, settle_s=0.002, round_s=0.5)
    report = label_in_time(clock.ask, clock.settle, TEXTS, TimeBudget(100.0, 60.0), text_s=guess)
    assert 100 + 60 * 0.88 <= clock.now <= 160
    assert clock.settled[-1] == clock.done == report.n_drawn
    assert len(clock.asked) <= 7


def test_each_round_goes_on_after_the_last_and_only_reached_texts_are_counted(monkeypatch):
    clock = Clock(monkeypatch, lambda i: 0.5)
    report = label_in_time(clock.ask, clock.settle, TEXTS, TimeBudget(100.0, 60.0), text_s=0.5)
    assert all(a < b for a, b in itertools.pairwise(clock.asked))
    assert report.n_texts == clock.asked[-1] < len(TEXTS)


def test_with_time_enough_every_text_is_labelled(monkeypatch):
    clock = Clock(monkeypatch, lambda i: 0.01)
    report = label_in_time(clock.ask, clock.settle, TEXTS, TimeBudget(100.0, 60.0), text_s=0.01)
    assert (report.n_texts, clock.done, report.in_time) == (1000, 1000, True)
    assert clock.now < 111


def test_it_goes_on_behind_the_texts_of_earlier_commands(monkeypatch):
    clock = Clock(monkeypatch, lambda i: 0.1)
    clock.done = 600
    report = label_in_time(clock.ask, clock.settle, TEXTS, TimeBudget(100.0, 60.0), n_done=600, text_s=0.1)
    assert clock.asked[0] > 600 and report.n_texts == 1000 and report.n_drawn == 400


def test_a_machine_that_slows_down_ends_in_time_with_what_it_has(monkeypatch):
    clock = Clock(monkeypatch, lambda i: 0.1 if i < 100 else 30.0)
    report = label_in_time(clock.ask, clock.settle, TEXTS, TimeBudget(100.0, 60.0), text_s=0.1)
    assert clock.now <= 160 and not report.in_time and report.n_drawn == clock.done == clock.settled[-1]
