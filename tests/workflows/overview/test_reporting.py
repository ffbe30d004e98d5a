import math

import pytest
from support.sample_texts import LABELS, a_task

from potstill.commands.main import run as console
from potstill.contract.checkpoint import Student
from potstill.contract.errors import UserError
from potstill.contract.texts import Text
from potstill.labeler.teacher import TeacherPath
from potstill.workflows.overview.reporting import stored_rationales


def a_student(task_digest):
    return Student(
        format=1, task_name="moves", labels=LABELS, family="encoder", target=False, max_tokens=32, temperature=1.0, thresholds=None,
        loss="reg", seed=0, task_digest=task_digest, soft_labels_digest="s" * 64, teacher_digest="t" * 64, backbone="b",
        backbone_digest="b" * 64, n_train=2, n_validation=2, scores={},
    )  # fmt: skip


def test_rationales_come_with_the_label_that_their_path_chose_and_direct_answers_have_none(stored):
    store, run = stored({"a": []}, texts={"a": "it goes up"}, task_digest=a_task().digest, mode="cot")
    store.add_texts([Text("it goes up", "a")])
    words = [(0.9, 0.1), (0.2, 0.8), (0.9, 0.1)]
    said = ["it says so", "they mock it", " "]
    logprobs = [tuple(math.log(p) for p in word) for word in words]
    store.add(run, [TeacherPath("a", i, 0, i, text, word, 5, 7) for i, (text, word) in enumerate(zip(said, logprobs))])
    found = stored_rationales(store.path, a_student(a_task().digest))
    assert {key: [(r.label, r.text) for r in rows] for key, rows in found.items()} == {
        ("it goes up", None): [("up", "it says so"), ("down", "they mock it")]
    }


def test_a_store_of_another_task_is_refused(stored):
    store, _ = stored({"a": [(0, (0.9, 0.1))]})
    with pytest.raises(
        UserError, match=r"labels.db: holds no run of the student's task \(digest xxxxxxxxxxxx…\); name its own store$"
    ):
        stored_rationales(store.path, a_student("x" * 64))


@pytest.mark.parametrize("value", ["options", "=a", "options="])
def test_a_slice_without_name_or_expression_is_wrong_usage(value, tmp_path, capsys):
    assert console(["report", str(tmp_path), str(tmp_path / "gold.jsonl"), "--slice", value]) == 2
    assert f"Invalid value for '--slice': {value!r} is not NAME=REGEX" in capsys.readouterr().err


def test_a_folder_that_is_no_checkpoint_is_refused_in_one_line(tmp_path, capsys):
    assert console(["report", str(tmp_path), str(tmp_path / "gold.jsonl"), "--out", str(tmp_path / "report.html")]) == 1
    assert "is not a checkpoint" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
