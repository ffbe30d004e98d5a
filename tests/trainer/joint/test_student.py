import numpy as np
import pytest
from support.tiny_backbone import VOCABULARY, write_backbone
from support.toy_questions import WORDS, a_questionnaire, answer_rows, answered_gold
from support.toy_task import quick

from potstill.contract.checkpoint import read_student
from potstill.contract.errors import UserError
from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.head import flat_labels, ranges
from potstill.contract.questions.probabilities import head_probs, tag_thresholds
from potstill.contract.questions.questionnaire import questionnaire_from_json
from potstill.contract.questions.soft_answers import read_soft_answers, write_soft_answers
from potstill.trainer.run import train
from potstill.trainer.students import encoder as students

MOST_RIGHT = 0.9  # the words give every answer away; a student that has learned a question is rarely wrong


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """The tiny encoder, with the words of all toy questions."""
    return write_backbone(tmp_path_factory.mktemp("backbone"), [*VOCABULARY, *WORDS])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, backbone):
    """(task, soft-label file, checkpoint, report) of a student of the toy questions; `asks` is answered by every other row."""
    folder, task = tmp_path_factory.mktemp("joint"), a_questionnaire()
    path = folder / "soft_labels.parquet"
    write_soft_answers(path, answer_rows(600, task, left_out=["asks"]))
    return task, path, folder / "student", train(task, path, folder / "student", quick(backbone, family="static", epochs=8))


def rights(task, checkpoint, gold):
    """By question, the share of gold answers that the checkpoint gives, of tags for each tag."""
    student = read_student(checkpoint)
    encoder = students.from_checkpoint(checkpoint, student.labels, max_tokens=student.max_tokens, pair=student.target)
    logits = encoder.logits(encoder.encode([(text.text, text.target) for text in gold]))
    given = [parse_gold(checkpoint, text.id, task.questions, text.gold) for text in gold]
    found = {}
    for head, outputs in zip(student.heads, ranges(student.heads), strict=True):
        probs = head_probs(head, logits[:, outputs])
        wanted = np.array([[name in one[head.name] for name in head.labels] for one in given])
        if head.is_softmax:
            found[head.name] = wanted[np.arange(len(gold)), probs.argmax(axis=1)].mean()
        else:
            found[head.name] = ((probs >= tag_thresholds(head)) == wanted).mean()
    return found


def test_one_network_learns_every_kind_of_question(trained):
    task, _, checkpoint, _ = trained
    found = rights(task, checkpoint, answered_gold(200))
    assert set(found) == {"move", "asks", "topics", "sure"}
    assert min(found.values()) > MOST_RIGHT, found


def test_the_record_has_a_head_for_each_question_and_can_be_read(trained):
    task, _, checkpoint, report = trained
    student = read_student(checkpoint)
    assert student == report.student
    assert student.labels == task.label_names == flat_labels(student.heads)
    assert [head.kind for head in student.heads] == ["choice", "yesno", "tags", "degree"]
    move, asks, topics, sure = student.heads
    assert 1.6 < move.n_train / asks.n_train < 2.4
    assert sure.values == [0.0, 0.5, 1.0] and topics.values is None
    assert {"accuracy", "auc"} <= set(asks.scores["validation"]) and "map" in topics.scores["validation"]
    assert abs(sum(move.label_shares.values()) - 1) < 1e-6 and set(topics.label_shares) == {"news", "chart", "people"}


def test_the_folder_holds_the_task_and_the_rows_of_several_questions(trained):
    task, _, checkpoint, report = trained
    assert questionnaire_from_json(checkpoint / "task.json", (checkpoint / "task.json").read_bytes()) == task
    validation = read_soft_answers(checkpoint / "validation.jsonl", task.questions)
    assert len(validation) == report.student.n_validation
    gate = read_soft_answers(checkpoint / "gate.jsonl", task.questions)
    assert gate and not {row.id for row in gate} & {row.id for row in validation}


def test_the_report_says_how_well_each_question_is_answered(trained):
    text = trained[3].as_text()
    for name in ("move (choice)", "asks (yesno)", "topics (tags)", "sure (degree)"):
        assert name in text
    assert "qwk" in text and text.splitlines()[-1].startswith("wrote ")


def test_a_task_with_targets_is_learned_from_pairs(tmp_path, backbone):
    task, path = a_questionnaire(target=True), tmp_path / "rows.jsonl"
    write_soft_answers(path, answer_rows(120, task))
    report = train(task, path, tmp_path / "student", quick(backbone, epochs=1))
    assert report.student.target


@pytest.mark.parametrize("family", ["encoder", "charformer"])
def test_other_families_have_a_range_of_outputs_for_each_question_too(tmp_path, backbone, family):
    task, path = a_questionnaire(), tmp_path / "rows.jsonl"
    write_soft_answers(path, answer_rows(120, task))
    train(task, path, tmp_path / "student", quick(backbone, family=family, epochs=1))
    student = read_student(tmp_path / "student")
    encoder = students.from_checkpoint(tmp_path / "student", student.labels, max_tokens=student.max_tokens, pair=False)
    assert encoder.logits(encoder.encode([("the price will rise", None)])).shape == (1, len(task.label_names))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"from_student": "x"},
            "--from answers for a student of one choice; train the student of several questions on its soft labels",
        ),
        ({"seeds": 3}, "--seeds is 3; a student of several questions takes one seed"),
    ],
)
def test_what_several_questions_do_not_take_is_said_before_training(tmp_path, backbone, changes, problem):
    task, path = a_questionnaire(), tmp_path / "rows.jsonl"
    write_soft_answers(path, answer_rows(60, task))
    with pytest.raises(UserError) as caught:
        train(task, path, tmp_path / "student", quick(backbone, **changes))
    assert str(caught.value) == problem


def test_one_question_of_another_kind_is_trained_alone(tmp_path, backbone):
    """A task of tags alone has one head."""
    whole = a_questionnaire()
    task = a_questionnaire(questions=[whole.find("topics")], examples=[])
    rows = answer_rows(200, task)
    path = tmp_path / "rows.jsonl"
    write_soft_answers(path, rows)
    student = train(task, path, tmp_path / "student", quick(backbone, epochs=6)).student
    assert [head.name for head in student.heads] == ["topics"]
