"""Progress off a terminal is a plain line now and then; nothing goes to stdout."""

import itertools

import pytest

from potstill.commands.console import progress


@pytest.fixture
def clock(monkeypatch):
    ticks = itertools.count(0.0, 6.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks))


def test_a_line_says_how_far_how_fast_and_how_long_still(clock, capsys):
    with progress.progress("texts", per_unit=4) as show:
        for done in (0, 24, 48):
            show("label", done, 96)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "label: 24 of 96, 1.00 texts/s, 18 s left\n"


def test_what_was_done_before_does_not_count_as_speed(clock, capsys):
    with progress.progress("texts") as show:
        show("label", 1000, 1024)
        show("label", 1012, 1024)
    assert "2.00 texts/s, 6 s left" in capsys.readouterr().err


def test_a_stage_that_ends_at_once_prints_nothing(capsys):
    with progress.progress() as show:
        show("train", 5, 5)
    assert capsys.readouterr().err == ""


def test_before_anything_is_done_no_time_left_is_made_up(clock, capsys):
    with progress.progress() as show:
        for done in (3, 3, 3):
            show("train", done, 9)
    assert capsys.readouterr().err == ""
