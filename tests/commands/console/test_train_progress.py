"""How a training is shown: JSON lines off a terminal, a bar on one; nothing goes to stdout."""

import itertools
import json

import pytest
from support.terminal import run_on_a_terminal

from potstill.commands.console import train_progress


@pytest.fixture
def clock(monkeypatch):
    ticks = itertools.count(0.0, 6.0)
    monkeypatch.setattr(train_progress.time, "monotonic", lambda: next(ticks))


def lines(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_at_most_every_ten_seconds_says_how_far_how_fast_and_how_long_still(clock, capsys):
    with train_progress.train_progress() as show:
        for done in (0, 24, 48, 60):
            show("train", done, 96, 0.5)
    assert lines(capsys) == [
        {"stage": "train", "step": 24, "steps": 96, "loss": 0.5, "steps_per_s": 4.0, "seconds_left": 18},
        {"stage": "train", "step": 60, "steps": 96, "loss": 0.5, "steps_per_s": 3.333, "seconds_left": 11},
    ]


def test_the_loss_is_a_running_mean_that_begins_with_the_first_step(clock, capsys):
    with train_progress.train_progress() as show:
        show("train", 1, 9, 2.0)
        show("train", 2, 9, 1.0)
    (line,) = lines(capsys)
    assert line["loss"] == pytest.approx((0.95 * 2 + 1) / 1.95, abs=1e-6)


def test_stages_have_speeds_and_losses_of_their_own(clock, capsys):
    with train_progress.train_progress() as show:
        for done in (0, 10, 20):
            show("tapt", done, 20, 9.0)
        for done in (0, 4, 8):
            show("train", done, 8, 1.0)
    found = [(line["stage"], line["loss"], line["steps_per_s"]) for line in lines(capsys)]
    assert found == [("tapt", 9.0, 1.667), ("train", 1.0, 0.667)]


def test_steps_of_an_earlier_run_do_not_count_as_speed(clock, capsys):
    with train_progress.train_progress() as show:
        show("train", 1000, 1024, 1.0)
        show("train", 1012, 1024, 1.0)
    assert lines(capsys)[0]["steps_per_s"] == 2.0


def test_a_terminal_gets_a_bar_with_the_loss_and_keeps_stdout_clean():
    program = (
        "import time\n"
        "from potstill.commands.console.train_progress import train_progress\n"
        "with train_progress() as show:\n"
        "    for done in range(1, 6):\n"
        "        show('train', done, 5, 0.25)\n"
        "        time.sleep(0.1)\n"
    )
    output, shown = run_on_a_terminal(program)
    assert output == ""
    assert "steps, loss 0.2500," in shown
    assert "left" in shown
