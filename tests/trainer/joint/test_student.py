import msgspec
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
from potstill.contract.texts import Text, write_texts
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.selection import is_validation
from potstill.trainer.joint.intermediate_teacher import answered, open_answering_student
from potstill.trainer.joint.targets import joint_targets
from potstill.trainer.run import train
from potstill.trainer.students import encoder as students
from potstill.trainer.training.ensemble import fold_of

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


def test_several_seeds_are_distilled_into_one_more_student_of_all_questions(tmp_path, backbone):
    task, path = a_questionnaire(), tmp_path / "rows.jsonl"
    write_soft_answers(path, answer_rows(160, task, left_out=["asks"]))
    report = train(task, path, tmp_path / "student", quick(backbone, family="static", epochs=2, seeds=2))
    found = report.training.ensemble
    assert found.training.shape == (len(report.rows.training), len(task.label_names))
    np.testing.assert_allclose(found.training[:, :3].sum(axis=1), 1)  # a choice
    assert [set(scores) for scores in (*found.scores, found.mean_scores)] == [{"move", "asks", "topics", "sure"}] * 3
    assert "mean of 2 students, each without one of 2 folds: move " in report.as_text()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["rows.jsonl", "student"]
    other = train(task, path, tmp_path / "one", quick(backbone, family="static", epochs=2))
    assert other.student.validation_losses != report.student.validation_losses


def test_the_ensembles_answers_are_mixed_into_the_targets_of_every_kind():
    task = a_questionnaire()
    rows = answer_rows(6, task, left_out=["asks"])
    mean = np.full((6, len(task.label_names)), 0.5)
    teacher, both, ensemble = (
        joint_targets(rows, task.questions, TrainConfig(seeds=2, teacher_weight=weight), mean) for weight in (1.0, 0.5, 0.0)
    )
    n = len(task.label_names)
    np.testing.assert_array_equal(teacher, joint_targets(rows, task.questions, TrainConfig()))
    np.testing.assert_allclose(both[:, :n], (teacher[:, :n] + ensemble[:, :n]) / 2)
    asks = task.label_names.index("asks/yes")
    assert set(ensemble[:, asks]) == {0.5, 0.0} and (ensemble[:, asks] > 0).tolist() == [True, False] * 3
    np.testing.assert_array_equal(ensemble[:, n:], teacher[:, n:])  # weights are the teacher's


def test_a_question_that_one_fold_holds_all_answers_to_is_said(tmp_path, backbone):
    task, path = a_questionnaire(), tmp_path / "rows.jsonl"
    rows = answer_rows(60, task)
    kept = next(i for i, row in enumerate(rows) if not is_validation(row.text, 0.25))
    fold = fold_of(rows[kept].text, 2)
    rows = [
        msgspec.structs.replace(row, answers=row.answers | {"sure": None})
        if fold_of(row.text, 2) != fold and not is_validation(row.text, 0.25)
        else row
        for row in rows
    ]
    write_soft_answers(path, rows)
    with pytest.raises(UserError, match="no text outside one of 2 folds answers sure; set fewer folds, or --folds 1 for none"):
        train(task, path, tmp_path / "student", quick(backbone, seeds=2, epochs=1, validation_share=0.25))


@pytest.mark.parametrize("family", ["static", "charformer"])
def test_another_student_answers_the_texts_and_those_of_a_pool(tmp_path, backbone, trained, family):
    task, path, teacher, _ = trained
    pool = tmp_path / "pool.jsonl"
    pool.write_bytes(write_texts([Text(text.text, text.id) for text in answered_gold(150, seed=9)]))
    config = quick(backbone, family=family, from_student=str(teacher), pool=str(pool), epochs=1)
    seen = []
    report = train(task, path, tmp_path / "student", config, lambda stage, done, total, loss: seen.append(total))
    labelled = len(report.rows.training)
    n_pool = sum(not is_validation(text.text, config.validation_share) for text in answered_gold(150, seed=9))
    assert seen[-1] >= -(-(labelled + n_pool - 5) // config.batch_size)  # a few of the pool are labelled texts
    assert seen[-1] > -(-labelled // config.batch_size)
    assert report.student.n_train == labelled and [head.name for head in report.student.heads] == ["move", "asks", "topics", "sure"]


def test_the_answers_of_a_student_are_soft_labels_of_every_question(tmp_path, trained):
    task, _, checkpoint, _ = trained
    rows = answer_rows(20, task, seed=4, left_out=["asks"])
    found = answered(open_answering_student(checkpoint, task), rows)
    path = tmp_path / "rows.jsonl"
    write_soft_answers(path, found)
    assert [row.id for row in read_soft_answers(path, task.questions)] == [row.id for row in rows]
    one = found[1]
    assert rows[1].answers["asks"] is None and one.answers["asks"].method == "student"
    assert sum(one.answers["move"].votes.values()) == 1 and max(one.answers["topics"].votes.values()) <= 1
    assert found == answered(open_answering_student(checkpoint, task), found)


def test_a_student_of_other_questions_cannot_answer_for_these(tmp_path, backbone, trained):
    task, path = a_questionnaire(), tmp_path / "rows.jsonl"
    other = a_questionnaire(questions=[task.find("topics"), task.find("asks")], examples=[])
    write_soft_answers(path, answer_rows(60, other))
    with pytest.raises(UserError) as caught:
        train(other, path, tmp_path / "student", quick(backbone, from_student=str(trained[2])))
    assert str(caught.value) == (
        f"{trained[2]}: answers move (choice), asks (yesno), topics (tags), sure (degree), but task 'toy' asks for topics (tags), "
        "asks (yesno); name a student of this task, with the same labels in the same order"
    )


def test_one_question_of_another_kind_is_trained_alone(tmp_path, backbone):
    """A task of tags alone has one head."""
    whole = a_questionnaire()
    task = a_questionnaire(questions=[whole.find("topics")], examples=[])
    rows = answer_rows(200, task)
    path = tmp_path / "rows.jsonl"
    write_soft_answers(path, rows)
    student = train(task, path, tmp_path / "student", quick(backbone, epochs=6)).student
    assert [head.name for head in student.heads] == ["topics"]


def test_a_run_that_was_broken_off_goes_on_to_the_weights_of_one_that_was_not(tmp_path, backbone):
    task, path = a_questionnaire(), tmp_path / "rows.jsonl"
    write_soft_answers(path, answer_rows(120, task, left_out=["asks"]))
    config = quick(backbone, epochs=2, save_every=0.0)
    seen = []

    def until(stage, done, total, loss):
        seen.append(done)
        if done == 15:
            raise KeyboardInterrupt

    train(task, path, tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        train(task, path, tmp_path / "student", config, until)
    seen.clear()
    train(task, path, tmp_path / "student", config, lambda stage, done, total, loss: seen.append(done))
    assert seen[0] == 15 or seen[0] == 16
    for name in ("model.safetensors", "student.json", "validation.jsonl"):
        assert (tmp_path / "student" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_student_of_the_same_questions_is_gone_on_from_and_one_of_others_gets_a_new_head(tmp_path, backbone):
    task, path = a_questionnaire(), tmp_path / "rows.jsonl"
    write_soft_answers(path, answer_rows(120, task))
    train(task, path, tmp_path / "first", quick(backbone, epochs=1))
    again = train(task, path, tmp_path / "again", quick(backbone, epochs=1, init=str(tmp_path / "first")))
    assert f"started from {tmp_path / 'first'} and its head" in again.as_text()
    other = a_questionnaire(questions=[task.find("topics"), task.find("asks")], examples=[])
    write_soft_answers(tmp_path / "other.jsonl", answer_rows(120, other))
    config = quick(backbone, epochs=1, init=str(tmp_path / "first"))
    assert "under a new head" in train(other, tmp_path / "other.jsonl", tmp_path / "other", config).as_text()
