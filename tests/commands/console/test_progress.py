"""Off a terminal, progress is a line now and then; on one it is a bar. Nothing of it goes to stdout."""

import itertools
import json
import re

import pytest
from support.processes import run_on_a_terminal
from support.teachers.table_teacher import running

from potstill.commands.console import progress
from potstill.contract.system.progress import tell_progress
from potstill.labeler.run.progress import RunSnapshot


@pytest.fixture
def clock(monkeypatch):
    ticks = itertools.count(0.0, 6.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks))


# Plain counts.


def test_a_line_says_how_far_how_fast_and_how_long_still(clock, capsys):
    with progress.progress(unit="texts", per_unit=4) as show:
        for done in (0, 24, 48):
            show("label", done, 96)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "label: 24 of 96, 1.00 texts/s, 18 s left\n"


def test_what_was_done_before_does_not_count_as_speed(clock, capsys):
    with progress.progress(unit="texts") as show:
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


def test_what_is_told_deep_inside_is_shown_as_well(clock, capsys):
    with progress.progress("derive"):
        for done in (0, 24, 48):
            tell_progress("embed texts", done, 96)
        tell_progress("load the encoder")
    assert capsys.readouterr().err == "embed texts: 24 of 96, 4.00/s, 18 s left\n"


STAGES = """
import time
from potstill.commands.console import progress as shown
from potstill.contract.system.progress import tell_progress
shown.SECONDS_BEFORE_BAR = SECONDS
with shown.progress("certify", "texts"):
    tell_progress("load [/it]")
    time.sleep(0.3)
    for done in range(4):
        tell_progress("answer texts", done, 4)
        time.sleep(0.2)
    tell_progress("answer texts", 4, 4)
    print("a result")
    time.sleep(0.3)
"""


def test_a_terminal_shows_the_stage_that_was_told_last_and_the_whole_where_none_is():
    output, shown = run_on_a_terminal(STAGES.replace("= SECONDS", "= 0.0"))
    assert output == "a result\n"
    frames = [frame.split("━")[0].strip() for frame in shown.replace("\n", "\r").split("\r") if "━" in frame]
    assert [name for name, _ in itertools.groupby(frames)] == ["certify", "load [/it]", "answer texts", "certify"]
    assert re.search(r"answer texts [━╸╺]+ +3/4, \d+\.\d texts/s, 0:00:0\d left", shown)


def test_a_terminal_shows_nothing_of_work_that_ends_soon():
    output, shown = run_on_a_terminal(STAGES.replace("= SECONDS", "= 60.0"))
    assert (output, shown) == ("a result\n", "")


def test_where_work_is_timed_the_line_is_drawn_only_when_a_stage_is_told():
    program = STAGES.replace("= SECONDS", "= 0.0").replace('"texts")', '"texts", timed=True)')
    _, shown = run_on_a_terminal(program)
    assert shown.count("3/4") == 1
    _, drawn_beside = run_on_a_terminal(program.replace(", timed=True", ""))
    assert drawn_beside.count("3/4") > 1


# Training.


def lines(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_at_most_every_ten_seconds_says_how_far_how_fast_and_how_long_still(clock, capsys):
    with progress.train_progress() as show:
        for done in (0, 24, 48, 60):
            show("train", done, 96, 0.5)
    assert lines(capsys) == [
        {"stage": "train", "step": 24, "steps": 96, "loss": 0.5, "steps_per_s": 4.0, "seconds_left": 18},
        {"stage": "train", "step": 60, "steps": 96, "loss": 0.5, "steps_per_s": 3.333, "seconds_left": 11},
    ]


def test_the_loss_is_a_running_mean_that_begins_with_the_first_step(clock, capsys):
    with progress.train_progress() as show:
        show("train", 1, 9, 2.0)
        show("train", 2, 9, 1.0)
    (line,) = lines(capsys)
    assert line["loss"] == pytest.approx((0.95 * 2 + 1) / 1.95, abs=1e-6)


def test_stages_have_speeds_and_losses_of_their_own(clock, capsys):
    with progress.train_progress() as show:
        for done in (0, 10, 20):
            show("tapt", done, 20, 9.0)
        for done in (0, 4, 8):
            show("train", done, 8, 1.0)
    found = [(line["stage"], line["loss"], line["steps_per_s"]) for line in lines(capsys)]
    assert found == [("tapt", 9.0, 1.667), ("train", 1.0, 0.667)]


def test_steps_of_an_earlier_run_do_not_count_as_speed(clock, capsys):
    with progress.train_progress() as show:
        show("train", 1000, 1024, 1.0)
        show("train", 1012, 1024, 1.0)
    assert lines(capsys)[0]["steps_per_s"] == 2.0


def test_a_terminal_gets_a_bar_with_the_loss_and_keeps_stdout_clean():
    program = (
        "import time\n"
        "from potstill.commands.console import progress\n"
        "from potstill.commands.console.progress import train_progress\n"
        "progress.SECONDS_BEFORE_BAR = 0.0\n"
        "with train_progress() as show:\n"
        "    for done in range(1, 6):\n"
        "        show('train', done, 5, 0.25)\n"
        "        time.sleep(0.1)\n"
    )
    output, shown = run_on_a_terminal(program)
    assert output == ""
    assert "steps, loss 0.2500," in shown
    assert "left" in shown


# Labelling.


def test_off_a_terminal_there_is_a_json_line_at_most_every_ten_seconds(monkeypatch, capsys):
    ticks = itertools.count(0.0, 4.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks))
    with progress.label_progress() as show:
        for n in range(1, 5):
            show(running(n))
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert 0 < len(lines) < 4
    first = json.loads(lines[0])
    assert first["stage"] == "label"
    assert set(first) == {"stage", *RunSnapshot.__struct_fields__}
    assert (first["of"], first["shares"], first["accuracy"], first["n_gold"]) == (
        8,
        {"up": 1.0},
        1.0,
        1,
    )  # what is zero is left out
    assert all(round(value, 4) == value for value in first.values() if isinstance(value, float))


def test_a_run_that_ends_at_once_writes_nothing(capsys):
    with progress.label_progress() as show:
        show(running())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({}, "up 34% down 66%"),
        ({"agreement": 0.614}, "up 34% down 66%, agreement 0.61"),
        ({"unreadable": 0.0}, "up 34% down 66%"),
        ({"unreadable": 0.021, "accuracy": 0.5, "n_gold": 12}, "up 34% down 66%, unreadable 2%, gold 0.50 (n=12)"),
        ({"shares": {}}, ""),
        (
            {"shares": {f"intent_{i}": 0.05 if i % 20 else 0.2 for i in range(77)}, "agreement": 0.5},
            "intent_0 20% intent_20 20% intent_40 20% intent_60 20%, 73 other labels, agreement 0.50",
        ),
    ],
)
def test_what_the_labels_look_like_is_a_few_words(change, shown):
    nothing = {"agreement": None, "unreadable": None, "accuracy": None, "n_gold": 0, "shares": {"up": 0.338, "down": 0.662}}
    now = RunSnapshot(paths=1, of=2, seconds=1.0, texts_per_s=None, seconds_left=None, **(nothing | change))
    assert progress.looks(now) == shown


ON_A_TERMINAL = """
import time
from potstill.commands.console import progress as shown
from potstill.commands.console.progress import label_progress
from support.teachers.table_teacher import running
shown.SECONDS_BETWEEN_LOOKS, shown._LOOK_SHARE = 0.0, float("inf")  # looks every time, however slow the machine is
with label_progress() as show:
    for n in (2, 4, 8):
        show(running(n))
        time.sleep(0.15)
print("the result")
"""


def test_on_a_terminal_there_is_a_bar_with_what_the_labels_look_like():
    output, plain = run_on_a_terminal(ON_A_TERMINAL)
    assert output == "the result\n"
    assert "8/8 paths" in plain
    assert "up 100% down 0%, agreement 1.00, gold 1.00 (n=1)" in plain
    assert "{" not in plain


def test_names_of_labels_that_look_like_markup_are_shown_as_they_are():
    _, plain = run_on_a_terminal(ON_A_TERMINAL.replace("running(n)", "running(n, ['[/up]', '[red]:smile:'])"))
    assert "[/up] 100% [red]:smile: 0%" in plain


def test_texts_that_are_embedded_after_a_run_have_a_line_in_the_place_of_its_bar():
    steps = 'from potstill.contract.system.progress import tell_progress\ntell_progress("embed texts", 3, 9)\ntime.sleep(0.3)\n'
    program = ON_A_TERMINAL.replace("with label", "shown.SECONDS_BEFORE_BAR = 0.0\nwith label").replace(
        'print("the', "    " + steps.replace("\n", "\n    ").rstrip(" ") + '    show(running(8))\nprint("the'
    )
    output, plain = run_on_a_terminal(program)
    assert output == "the result\n"
    assert re.search(r"8/8 paths[^\n]*.*embed texts [━╸╺]+ +3/9.*8/8 paths", plain, re.DOTALL)
