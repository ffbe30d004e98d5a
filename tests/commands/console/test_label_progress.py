"""Off a terminal a run writes JSON lines; on one it shows a bar. Nothing of it goes to stdout."""

import itertools
import json

import pytest
from support.table_teacher import running
from support.terminal import run_on_a_terminal

from potstill.commands.console import label_progress
from potstill.labeler.run.progress import RunSnapshot


def test_off_a_terminal_there_is_a_json_line_at_most_every_ten_seconds(monkeypatch, capsys):
    ticks = itertools.count(0.0, 4.0)
    monkeypatch.setattr(label_progress.time, "monotonic", lambda: next(ticks))
    with label_progress.label_progress() as show:
        for n in range(1, 5):
            show(running(n))
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert 0 < len(lines) < 4
    first = json.loads(lines[0])
    assert first["stage"] == "label"
    assert set(first) == {"stage", *RunSnapshot.__struct_fields__}
    assert (first["of"], first["shares"], first["accuracy"], first["n_gold"]) == (8, {"up": 1.0, "down": 0.0}, 1.0, 1)


def test_a_run_that_ends_at_once_writes_nothing(capsys):
    with label_progress.label_progress() as show:
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
    ],
)
def test_what_the_labels_look_like_is_a_few_words(change, shown):
    nothing = {"agreement": None, "unreadable": None, "accuracy": None, "n_gold": 0, "shares": {"up": 0.338, "down": 0.662}}
    now = RunSnapshot(paths=1, of=2, seconds=1.0, texts_per_s=None, seconds_left=None, **(nothing | change))
    assert label_progress.looks(now) == shown


ON_A_TERMINAL = """
import time
from potstill.commands.console import label_progress as shown
from potstill.commands.console.label_progress import label_progress
from support.table_teacher import running
shown.SECONDS_BETWEEN_LOOKS = 0.1
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
