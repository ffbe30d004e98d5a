"""Commands on bundles of several questions: those that answer texts do, and those that are made for one choice say so."""

import json

import msgspec
import pytest
from support.small_task import SMALL_TASK
from support.tiny_bundle import some_heads, write_bundle

from potstill.commands.main import run
from potstill.serve.runtime.classifier import Classifier

ASKED = "move (choice), asks (yesno), topics (tags), sure (degree)"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("several") / "bundle", heads=some_heads())


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    rows = [{"text": "the price will rise", "gold": "up"}, {"text": ""}, {"text": "fall", "gold": "down"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_predict_prints_an_object_for_each_question_of_a_row(bundle, texts, capsys):
    assert run(["predict", str(bundle), str(texts), "--sets"]) == 0
    first, empty, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    with Classifier.open(bundle) as classifier:
        expected = classifier.classify(["the price will rise", "fall"], sets=True)
    assert [first["questions"], last["questions"]] == [msgspec.to_builtins(answer.questions) for answer in expected]
    assert "label" not in first and "label_set" in first["questions"]["move"]
    assert (empty["questions"], empty["abstain"], empty["skipped"]) == ({}, True, "empty")


def test_verify_replays_the_golden_texts_of_all_questions(bundle, capsys):
    assert run(["verify", str(bundle)]) == 0
    assert "3 golden texts, largest change of a probability 0" in capsys.readouterr().out


def test_bench_measures_it(bundle, capsys):
    assert run(["bench", "bundle", str(bundle), "--n", "4"]) == 0
    assert "limit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["cascade", "BUNDLE", "BUNDLE", "TEXTS", "OUT"], "potstill cascade"),
    ],
)
def test_what_is_made_for_one_choice_says_so(bundle, texts, tmp_path, capsys, command, what):
    places = {"BUNDLE": bundle, "TEXTS": texts, "OUT": tmp_path / "out"}
    assert run([str(places.get(word, word)) for word in command]) == 1
    assert capsys.readouterr().err == (
        f"potstill: {bundle}: answers {ASKED}; {what} takes a bundle of one choice: train a student for the question that "
        "needs it (potstill train --question NAME), and export that\n"
    )
    assert not (tmp_path / "out").exists()


TASK_OF_TWO = """
format = 2
name = "t"
[[questions]]
name = "asks"
kind = "yesno"
question = "Does the text ask something?"
[[questions]]
name = "buys"
kind = "yesno"
question = "Does the author buy?"
"""


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (SMALL_TASK, "{bundle}: answers " + ASKED + "; a teacher behind a server takes a bundle of one choice"),
        (TASK_OF_TWO, "a teacher behind a server takes a task of one choice, and this one asks asks (yesno), buys (yesno)"),
    ],
)
def test_no_teacher_stands_behind_it(bundle, tmp_path, capsys, task, message):
    (tmp_path / "task.toml").write_text(task)
    behind = ["--teacher", "http://127.0.0.1:9/v1", "--task", str(tmp_path / "task.toml")]
    assert run(["serve", str(bundle), "--port", "0", *behind]) == 1
    assert message.format(bundle=bundle) in capsys.readouterr().err
