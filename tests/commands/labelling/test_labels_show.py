"""`potstill labels show`: stored texts in the terminal, plain elsewhere; whatever a text holds, a terminal obeys none of it."""

import os
import pty
import re
import select
import sys

import pytest

from potstill.commands.main import run as console
from potstill.contract.texts import Text
from potstill.labeler.store.database import LabelStore, RunSettings
from potstill.labeler.teacher import TeacherPath

pytestmark = pytest.mark.slow

SETTINGS = {
    "task_digest": "d", "prompt_digest": "p", "labels": ["up", "down"], "words": ["up", "down"], "word_labels": [0, 1], "teacher": "small",
    "teacher_digest": "t", "source_digest": "s", "build": "b", "mode": "cot", "n_variants": 1, "temperature": 1.0,
    "max_rationale_tokens": 20, "seed": 0,
}  # fmt: skip
TEXTS = {
    "a": "Sure to rise, says everybody.",
    "b": "Perhaps \x1b[2J\x1b]0;taken\x07 it falls",
    "c": "Who knows\nwhat comes, STRASSE",
    "d": "Sure to fall",
}
UP = {"a": 4, "b": 3, "c": 2, "d": 0}  # of four votes


@pytest.fixture
def store(tmp_path):
    with LabelStore.create(tmp_path / "labels.db") as opened:
        opened.add_texts([Text(text, name, None, "up" if name == "d" else None) for name, text in TEXTS.items()])
        run = opened.begin_run(RunSettings(**SETTINGS))
        opened.add(
            run,
            [
                TeacherPath(name, p, 0, p, f"reason {p} \x1b[31m", (-0.1, -2.3) if p < UP[name] else (-2.3, -0.1), 10, 3)
                for name in TEXTS
                for p in range(4)
            ],
        )
    return tmp_path / "labels.db"


@pytest.fixture
def show(store, capsys):
    def show(*options, method="votes"):
        capsys.readouterr()
        code = console(["labels", "show", str(store), "--method", method, *options])
        return code, *capsys.readouterr()

    return show


def ids(out):
    return re.findall(r"^(\w)(?:  gold \w+)?$", out, re.MULTILINE)


def test_a_text_is_shown_with_distribution_votes_rationales_and_gold(show):
    code, out, err = show("--text", "sure FALL")
    assert (code, err) == (0, "")
    assert out == (
        "1 of 4 texts\n\n"
        "d  gold up\n"
        "  Sure to fall\n"
        "  up    0.000                        0 of 4 votes\n"
        "  down  1.000  ████████████████████  4 of 4 votes\n"
        "  agreement 1.00, entropy 0.00 nats, label words 1.00\n"
        "  [down] reason 0 \\x1b[31m\n"
        "  [down] reason 1 \\x1b[31m\n"
        "  [down] reason 2 \\x1b[31m\n"
    )


def test_the_least_certain_come_first(show):
    assert ids(show("--uncertain")[1]) == ["c", "b", "a", "d"]
    assert ids(show("--uncertain", "-n", "2")[1]) == ["c", "b"]
    assert ids(show()[1]) == ["a", "b", "c", "d"]


def test_texts_are_chosen_by_label_and_by_words_whatever_their_case(show):
    assert ids(show("--label", "down")[1]) == ["d"]
    assert ids(show("--text", "straße")[1]) == ["c"]
    assert show("--text", "nothing like it")[1] == "0 of 4 texts\n"


def test_rationales_of_both_labels_come_before_a_second_one_of_either(show):
    out = show("--text", "Perhaps", "--rationales", "2")[1]
    assert re.findall(r"\[(\w+)\] reason (\d)", out) == [("up", "0"), ("down", "3")]
    assert "reason" not in show("--rationales", "0")[1]


def test_no_character_of_a_text_commands_the_terminal(show):
    out = show()[1]
    assert "\x1b" not in out and "\x07" not in out and r"Perhaps \x1b[2J\x1b]0;taken\x07 it falls" in out


def on_a_terminal(store, **environment):
    """What the command writes to a terminal of its own, without a pager."""
    pid, terminal = pty.fork()
    if pid == 0:  # the child
        os.environ.update({"PAGER": "cat", "TERM": "xterm", **environment})
        os.execv(sys.executable, [sys.executable, "-m", "potstill", "labels", "show", str(store), "--method", "votes"])
    written = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # its end, on Linux
            break
        if not piece:
            break
        written += piece
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return written.decode()


def test_it_is_coloured_in_a_terminal_unless_that_is_not_wanted(store):
    plain, coloured = on_a_terminal(store, NO_COLOR="1"), on_a_terminal(store, NO_COLOR="")
    assert "\x1b[" not in plain
    colours = set(re.findall(r"\x1b\[([0-9;]+)m", coloured))
    assert {"36", "0", "1"} <= colours  # the majority's, the end, the id's
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label", "sideways"), "potstill: 'sideways' is not a label of this run; its labels are up, down\n"),
        (("--rationales", "-1"), "potstill: rationales is -1; it must be at least 0\n"),
        (("--run", "7"), "labels.db: has no run 7; it has 1\n"),
    ],
)
def test_what_there_is_not_is_said(show, options, message):
    code, out, err = show(*options)
    assert (code, out) == (1, "") and err.endswith(message)


@pytest.mark.parametrize("width", [30, 40, 80])
def test_no_line_is_wider_than_the_terminal(show, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = show("--rationales", "0")[1].splitlines()
    assert max(map(len, lines)) <= width and sum("votes" in line for line in lines) == 2 * len(TEXTS)
