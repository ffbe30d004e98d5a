"""A task of several questions at the console: checked, shown, labelled, derived, summarized, exported."""

import json
import random

import pytest
from support.teachers.question_paths import question_store

from potstill.commands.main import run as console
from potstill.contract.questions.questionnaire import load_any_task
from potstill.contract.questions.soft_answers import read_soft_answers

pytestmark = pytest.mark.slow

TASK = """
format = 2
name = "posts"
[[questions]]
name = "move"
question = "Where does it go?"
labels = [{name = "up"}, {name = "flat"}, {name = "down"}]
[[questions]]
name = "asks"
kind = "yesno"
question = "Does the text ask something?"
[[examples]]
text = "calls!"
answers = {move = "up", asks = false}
[[examples]]
text = "why puts"
answers = {move = "down"}
"""
TEXTS = '{"text": "one", "id": "1"}\n{"text": "is it two?", "id": "2"}\n'


@pytest.fixture
def potstill(tmp_path, monkeypatch, capsys):
    """Runs the console in a folder with task and texts; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.toml").write_text(TASK)
    (tmp_path / "texts.jsonl").write_text(TEXTS)

    def run(*args):
        capsys.readouterr()
        return (console(list(args)), *capsys.readouterr())

    return run


@pytest.fixture
def store(potstill, tmp_path):
    """Runs `potstill labels` over a store of the toy task, of which 30 of 40 texts have gold."""
    question_store(tmp_path / "labels.db", random.Random(0), 40, n_gold=30)
    return lambda *args: potstill("labels", *args)


def test_check_counts_questions_and_says_what_is_missing(potstill):
    code, out, err = potstill("task", "check", "task.toml")
    assert code == 0 and out.startswith("task.toml: sound; 2 questions, 2 worked examples, digest ")
    assert "note: move: no worked example has the label flat: a teacher rarely answers so\n" in err


def test_show_prints_what_the_questions_share_and_what_follows_for_each(potstill):
    code, out, err = potstill("task", "show", "task.toml", "hello", "--mode", "direct")
    assert code == 0 and out.endswith(
        "\nText: calls!\nMove: up\nAsks: no\n\nText: why puts\nMove: down\n\nText: hello\nMove:\nAsks:\n"
    )
    assert err == "the text is read once; then each of the last 2 lines follows it by itself\n"


def test_show_prints_each_prompt_where_questions_are_asked_alone(potstill):
    code, out, err = potstill("task", "show", "task.toml", "hello", "--mode", "cascade")
    assert code == 0 and out.count("Text: hello\nAnswer:") == 2
    assert [line for line in err.split("\n") if line in ("move:", "asks:")] == ["move:", "asks:"]


def test_label_writes_answers_to_every_question_and_keeps_gold_apart(potstill, tmp_path):
    (tmp_path / "gold.jsonl").write_text('{"text": "three", "gold": {"asks": true}}\n')
    command = ("label", "task.toml", "texts.jsonl", "out", "--gold", "gold.jsonl", "--mode", "direct", "--paths", "2")
    command += ("--parallel", "16", "--threads", "1")
    code, out, err = potstill(*command)
    assert code == 0 and "12 paths of 3 texts are stored; 12 of them drawn now" in out
    assert "wrote 2 soft labels to out/soft_labels.parquet, and 1 with gold to out/gold_labels.parquet" in out
    assert "note: asks: " in err
    questions = load_any_task("task.toml").questions
    rows = read_soft_answers(tmp_path / "out" / "soft_labels.parquet", questions)
    assert [(row.id, row.answers["move"].n_paths, row.answers["asks"].n_paths, row.gold) for row in rows] == [
        ("1", 2, 2, None),
        ("2", 2, 2, None),
    ]
    (scored,) = read_soft_answers(tmp_path / "out" / "gold_labels.parquet", questions)
    assert {name: given for name, given in scored.gold.items() if given} == {"asks": ["yes"]}
    assert "; 0 of them drawn now" in potstill(*command)[1]


def test_a_dry_run_counts_what_the_questions_share_once(potstill):
    command = ("label", "task.toml", "texts.jsonl", "out", "--dry-run", "--paths", "2", "--parallel", "16", "--threads", "1")
    code, out, _ = potstill(*command, "--mode", "direct")
    assert code == 0 and out.startswith("2 texts, 2 prompt variants, 8 paths\ntokens: ") and "about 0 sampled" in out
    both = int(out.split(" of texts")[0].split()[-1])
    code, out, _ = potstill(*command, "--mode", "cascade", "--direct", "2")
    assert code == 0 and both < int(out.split(" of texts")[0].split()[-1])


def test_with_hours_whole_texts_are_labelled_and_the_same_command_goes_on(potstill, tmp_path):
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "number {i}", "id": "{i}"}}\n' for i in range(9)))
    command = ("label", "task.toml", "texts.jsonl", "out", "--mode", "direct", "--paths", "2", "--hours", "0.05")
    command += ("--parallel", "16", "--threads", "1")
    code, out, _ = potstill(*command)
    assert code == 0 and "36 paths of 9 texts are stored; 36 of them drawn now" in out
    rows = read_soft_answers(tmp_path / "out" / "soft_labels.parquet", load_any_task("task.toml").questions)
    assert len(rows) == 9 and all(label is not None for row in rows for label in row.answers.values())
    assert "; 0 of them drawn now" in potstill(*command)[1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("task", "tune", "task.toml", "texts.jsonl", "out"), "potstill task tune takes a task of one choice"),
        (("label", "task.toml", "texts.jsonl", "out", "--then", "x.gguf"), "leave out --then, or write the question that needs it into a task of its own"),
        (("label", "task.toml", "texts.jsonl", "out", "--prior", "up=0.5,down=0.5"), "prior: 'up' is not question:label; write for example move:up=0.3"),
    ],
)  # fmt: skip
def test_what_several_questions_cannot_do_is_said_in_one_line(potstill, args, message):
    code, out, err = potstill(*args)
    assert (code, out) == (1, "") and message in err and err.count("\n") == 1


def test_gold_that_is_no_answer_is_refused_before_a_teacher_is_loaded(potstill, tmp_path):
    (tmp_path / "gold.jsonl").write_text('{"text": "three", "id": "3", "gold": {"move": "left"}}\n')
    code, _, err = potstill("label", "task.toml", "texts.jsonl", "out", "--gold", "gold.jsonl")
    assert code == 1 and "gold.jsonl: text '3': gold.move: 'left' is not an answer to move; allowed: up, flat, down" in err


def test_derive_writes_all_questions(store, tmp_path):
    code, out, _ = store("derive", "labels.db", "soft.jsonl", "--prior", "asks:yes=0.3")
    assert (code, out) == (0, "wrote 40 soft labels to soft.jsonl\n")
    rows = [json.loads(line) for line in (tmp_path / "soft.jsonl").read_text().splitlines()]
    assert list(rows[0]["answers"]) == ["move", "asks", "topics", "sure"]
    assert rows[0]["answers"]["asks"]["method"] == "calibrated(yes=0.3,no=0.7)"


def test_summary_is_an_overview_or_one_question_in_detail(store):
    code, out, _ = store("summary", "labels.db")
    assert code == 0 and [line.split(":")[0] for line in out.split("\n") if "texts," in line and "paths" in line] == [
        "move (choice)", "asks (yesno)", "topics (tags)", "sure (degree)",
    ]  # fmt: skip
    code, out, _ = store("summary", "labels.db", "--question", "topics/news")
    assert code == 0 and "on 30 gold texts, with 95 % intervals" in out and "affine" in out
    code, _, err = store("summary", "labels.db", "--question", "topics")
    assert code == 1 and "Name one with --question: move, asks, topics/news, topics/chart, topics/people, sure" in err
    code, out, _ = store("summary", "labels.db", "--json")
    assert code == 0 and [one["n_gold"] for one in json.loads(out)["questions"]] == [30] * 4


def test_check_counts_the_runs(store):
    code, out, _ = store("check", "labels.db")
    assert code == 0 and out.startswith("labels.db: sound; 6 runs, 40 texts\n")


def test_export_writes_one_question_for_review(store, tmp_path):
    code, _, err = store("export", "labels.db", "review.json", "--format", "label-studio")
    assert code == 1 and "which of the questions? Name one with --question: move, " in err
    code, out, _ = store("export", "labels.db", "review.json", "--format", "label-studio", "--question", "sure")
    assert code == 0 and len(json.loads((tmp_path / "review.json").read_text())) == 10, out
