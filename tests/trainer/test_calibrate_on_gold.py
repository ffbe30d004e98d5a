import json

import msgspec
import numpy as np
import pytest
from support.toy_task import QUICK, a_task, gold_texts, toy_rows, write_rows

from potstill.commands.main import run as console
from potstill.contract.checkpoint import read_student, write_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.scores.metrics import scores
from potstill.contract.scores.prior_shift import adjusted, estimate
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.texts import Text
from potstill.trainer.calibrate_on_gold import ConfidenceConfig, calibrate_on_gold
from potstill.trainer.config import TrainConfig
from potstill.trainer.evaluation.checkpoint_scores import evaluate, predict
from potstill.trainer.run import train

pytestmark = pytest.mark.slow

N_ROWS = 560
SHARE = 0.4  # so that at least 200 are held out, as vector scaling needs


@pytest.fixture(scope="module")
def trained(backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("confidence")
    path = write_rows(folder / "soft_labels.jsonl", toy_rows(N_ROWS, a_task()))
    config = TrainConfig(**{"backbone": str(backbone), **QUICK, "epochs": 4}, validation_share=SHARE, precision=0.8, coverage=0.9)
    assert (config.rule, config.confidence) == ("bound", 0.95)
    return train(a_task(), path, folder / "student", config)


def test_a_trained_student_has_thresholds_and_sets_by_the_teachers_majority_and_says_so(trained):
    student = read_student(trained.checkpoint)
    assert student == trained.student
    assert set(student.thresholds) == set(student.labels)
    assert (student.precision.wanted, student.precision.source, student.precision.n) == (0.8, "teacher", student.n_validation)
    assert student.precision.confidence == student.conformal.confidence == 0.95
    assert (student.conformal.coverage, student.conformal.source, student.conformal.n) == (0.9, "teacher", student.n_validation)
    assert sum(student.label_shares.values()) == pytest.approx(1)
    assert (
        "agreement with the teacher, not with people" in trained.as_text()
        and "hold the teacher's label, not a person's" in trained.as_text()
    )


def test_vector_scaling_was_tried_and_the_checkpoint_answers_as_it_was_judged(trained):
    assert trained.student.n_validation >= 200
    vector = trained.calibration.vector
    assert vector.reason == "" or vector.reason.startswith("across 5 folds")
    probs = predict(trained.checkpoint, gold_texts())
    assert np.isfinite(probs).all()


def test_gold_takes_the_place_of_the_teacher_and_nothing_else_changes(trained):
    before = read_student(trained.checkpoint)
    texts = gold_texts()
    report = calibrate_on_gold(trained.checkpoint, texts, ConfidenceConfig(precision=0.95, rule="point"))
    after = read_student(trained.checkpoint)
    assert (after.precision.source, after.precision.n, after.precision.confidence) == ("gold", len(texts), None)
    assert after.conformal == before.conformal  # not asked for
    assert msgspec.structs.replace(after, thresholds=before.thresholds, precision=before.precision) == before
    probs = predict(trained.checkpoint, texts)
    for c, row in enumerate(report.thresholds.per_label):
        assert after.thresholds[row.label] == row.threshold
        if row.threshold is not None:
            answered = (probs.argmax(axis=1) == c) & (probs[:, c] >= row.threshold)
            assert np.mean([texts[i].gold == row.label for i in np.flatnonzero(answered)]) >= 0.95
    calibrate_on_gold(trained.checkpoint, texts, ConfidenceConfig(coverage=0.8))
    assert read_student(trained.checkpoint).conformal.source == "gold"


def test_it_repeats(trained):
    texts, config = gold_texts(), ConfidenceConfig(precision=0.9, coverage=0.9)
    first = calibrate_on_gold(trained.checkpoint, texts, config)
    content = (trained.checkpoint / "student.json").read_bytes()
    assert calibrate_on_gold(trained.checkpoint, texts, config) == first
    assert (trained.checkpoint / "student.json").read_bytes() == content


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ([], "there is no text to evaluate; give at least one with a gold label"),
        ([Text("rise", "a")], "text 'a' has no gold label; allowed: up, flat, down"),
        (
            [Text("rise", "a", gold="sideways")],
            "text 'a' has the gold label 'sideways', unknown to the student; allowed: up, flat, down",
        ),
        ([Text("rise", "a", gold="up")], "there are 1 texts to choose thresholds on; give at least 10"),
        (
            [Text("rise", "a", "acme", "up")],
            "text 'a' has a target, but the student was trained on texts alone; leave the target out",
        ),
    ],
)
def test_gold_that_cannot_be_used_is_refused_and_the_checkpoint_stays_as_it_was(trained, texts, problem):
    before = (trained.checkpoint / "student.json").read_bytes()
    with pytest.raises(UserError) as caught:
        calibrate_on_gold(trained.checkpoint, texts, ConfidenceConfig(precision=0.9))
    assert str(caught.value) == problem
    assert (trained.checkpoint / "student.json").read_bytes() == before


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({}, "neither precision nor coverage is given; add, for example, --precision 0.9 or --coverage 0.9"),
        ({"precision": 0.0}, "precision is 0; it must be above 0 and at most 1"),
        ({"precision": 90.0}, "precision is 90; it must be above 0 and at most 1"),
        ({"coverage": 1.0}, "coverage is 1; it must be above 0 and below 1"),
        ({"precision": 0.9, "confidence": 0.3}, "confidence is 0.3; it must be at least 0.5 and below 1"),
        ({"precision": 0.9, "rule": "x"}, "rule is 'x'; allowed: bound, point"),
    ],
)
def test_a_wish_out_of_its_range_is_refused(wanted, problem):
    with pytest.raises(UserError) as caught:
        ConfidenceConfig(**wanted)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    "changes", [{"precision": 1.5}, {"precision": 0.0}, {"coverage": 0.0}, {"coverage": 1.0}, {"confidence": 0.0}]
)
def test_training_refuses_such_a_wish_before_it_starts(changes):
    with pytest.raises(UserError, match=r"^(precision|coverage|confidence) is [\d.]+; it must be (above 0|at least 0.5) and "):
        TrainConfig(**changes)


def test_the_console_calibrates_and_prints_the_table(trained, tmp_path, capsys):
    gold = tmp_path / "gold.jsonl"
    gold.write_text("".join(json.dumps({"text": text.text, "gold": text.gold}) + "\n" for text in gold_texts()))
    assert console(["calibrate", str(trained.checkpoint), str(gold), "--precision", "0.9", "--coverage", "0.9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["label", "threshold", "precision", "recall", "n"]
    assert lines[-1] == f"wrote {trained.checkpoint / 'student.json'}; for a bundle that answers so: potstill export"
    assert console(["calibrate", str(trained.checkpoint), str(gold)]) == 1
    assert capsys.readouterr().err.startswith("potstill: neither precision nor coverage is given")
    gold.write_text('{"text": "rise", "gold": "sideways"}\n')
    assert console(["calibrate", str(trained.checkpoint), str(gold), "--precision", "0.9"]) == 1
    assert capsys.readouterr().err == f"potstill: {gold}: line 1: gold: 'sideways' is not a label; allowed: up, flat, down\n"


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FormatError, match="is not a checkpoint"):
        calibrate_on_gold(tmp_path, gold_texts(), ConfidenceConfig(precision=0.9))


def test_evaluating_under_a_prior_shift_scores_the_probabilities_for_the_texts_own_shares(trained):
    texts = [text for i, text in enumerate(gold_texts(240)) if text.gold != "up" or i % 6 == 0]
    student, probs = read_student(trained.checkpoint), predict(trained.checkpoint, texts)
    shift = estimate(probs, np.array([student.label_shares[name] for name in student.labels]))
    assert shift.shares[0] < shift.source[0] - 0.1 and shift.p_value < 0.01
    gold = np.array([student.labels.index(text.gold) for text in texts])
    assert evaluate(trained.checkpoint, texts, prior_shift=True) == scores(adjusted(probs, shift), gold)
    assert evaluate(trained.checkpoint, texts) == scores(probs, gold)
    like_training = [Text(row.text, row.id, gold=row.majority) for row in read_soft_labels(trained.checkpoint / "validation.jsonl")]
    assert evaluate(trained.checkpoint, like_training, prior_shift=True) == evaluate(trained.checkpoint, like_training)
    with pytest.raises(UserError, match="^there are 20 texts; label shares need at least 50$"):
        evaluate(trained.checkpoint, texts[:20], prior_shift=True)
    write_student(trained.checkpoint, msgspec.structs.replace(student, label_shares=None))
    with pytest.raises(UserError, match=r"its student.json has no label_shares; train it again$"):
        evaluate(trained.checkpoint, texts, prior_shift=True)
    write_student(trained.checkpoint, student)
