import shutil
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from scipy.special import softmax
from support.toy_task import LABELS, a_task, gold_texts

from potstill.contract.checkpoint import read_student
from potstill.contract.errors import UserError
from potstill.contract.scores import metrics
from potstill.contract.texts import Text
from potstill.trainer.config import RECIPES
from potstill.trainer.evaluation.baselines import cross_fit
from potstill.trainer.evaluation.baselines.cross_fit import N_FOLDS, cross_fitted, folds, gold_row, recalibrated
from potstill.trainer.training.student import TrainedStudent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(toy_student):
    return toy_student[0]


def test_folds_are_equally_large_spread_every_label_and_do_not_depend_on_the_order():
    texts = gold_texts(100)
    found = folds(texts)
    sizes = Counter(found)
    assert sorted(sizes) == list(range(N_FOLDS)) and max(sizes.values()) - min(sizes.values()) <= 1
    for label in LABELS:
        counts = Counter(fold for fold, text in zip(found, texts, strict=True) if text.gold == label)
        assert max(counts.values()) - min(counts.values()) <= 1
    assert folds(texts[::-1]) == found[::-1]


def test_one_text_about_several_targets_stays_in_one_fold():
    texts = [Text(f"text {i % 10}", f"{i}", f"target {i}", LABELS[i % 3]) for i in range(40)]
    by_text = {}
    for text, fold in zip(texts, folds(texts), strict=True):
        assert by_text.setdefault(text.text, fold) == fold


def test_every_text_is_answered_once_by_a_student_that_never_saw_it(checkpoint, monkeypatch):
    monkeypatch.setitem(RECIPES, "encoder", replace(RECIPES["encoder"], min_steps=1, min_epochs=1))  # who learns what is not asked
    texts, trained_on, answered = gold_texts(60), [], []

    def remember_training(source, rows, *rest):
        trained_on.append({row.text for row in rows})
        return real_train(source, rows, *rest)

    def remember_answers(student, asked):
        answered.append({text for text, _ in asked})
        return real_probs(student, asked)

    real_train, real_probs = cross_fit.train_in_memory, TrainedStudent.probs
    monkeypatch.setattr(cross_fit, "train_in_memory", remember_training)
    monkeypatch.setattr(TrainedStudent, "probs", remember_answers)
    seen = []
    probs = cross_fitted(checkpoint, read_student(checkpoint), texts, lambda *step: seen.append(step))
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert len(trained_on) == len(answered) == N_FOLDS
    for learned, asked in zip(trained_on, answered, strict=True):
        assert not learned & asked and learned | asked == {text.text for text in texts}
    assert list(dict.fromkeys(stage for stage, *_ in seen)) == [f"fold {i} of 5" for i in range(1, 6)]


def test_answers_that_are_too_sure_are_flattened_and_keep_their_label():
    rng = np.random.default_rng(0)
    honest = rng.dirichlet(np.ones(3), 500)
    gold = np.array([rng.choice(3, p=row) for row in honest])
    sure = softmax(3 * np.log(honest), axis=1)  # as if every logit were three times too large
    found = recalibrated(sure, gold, np.arange(500) % N_FOLDS)
    np.testing.assert_array_equal(found.argmax(axis=1), sure.argmax(axis=1))
    assert metrics.log_loss(found, gold) == pytest.approx(metrics.log_loss(honest, gold), abs=0.01)
    assert metrics.log_loss(sure, gold) > metrics.log_loss(honest, gold) + 0.2


def test_a_folds_own_gold_plays_no_part_in_its_temperature():
    rng = np.random.default_rng(1)
    probs, gold, place = rng.dirichlet(np.ones(3), 200), rng.integers(0, 3, 200), np.arange(200) % N_FOLDS
    other = np.where(place == 2, (gold + 1) % 3, gold)
    np.testing.assert_array_equal(recalibrated(probs, gold, place)[place == 2], recalibrated(probs, other, place)[place == 2])


def test_a_gold_row_is_certain():
    row = gold_row(Text("rise", "x", gold="up"), a_task())
    assert (row.majority, row.agreement, row.entropy, row.probs) == ("up", 1, 0, {"up": 1, "flat": 0, "down": 0})


def test_too_few_gold_texts_are_refused_with_their_numbers(checkpoint):
    with pytest.raises(UserError) as caught:
        cross_fitted(checkpoint, read_student(checkpoint), gold_texts(15), None)
    assert str(caught.value) == (
        "baseline gold: needs at least 10 texts of each of two labels to train on; there are 5 'down', 5 'flat', 5 'up'"
    )


def test_a_backbone_that_has_changed_is_refused(checkpoint):
    student = msgspec.structs.replace(read_student(checkpoint), backbone_digest="0" * 64)
    with pytest.raises(
        UserError, match=r"^baseline gold: .*backbone has changed since the student was trained from it; restore its"
    ):
        cross_fitted(checkpoint, student, gold_texts(60), None)


def test_a_backbone_that_is_gone_is_refused(checkpoint):
    student = msgspec.structs.replace(read_student(checkpoint), backbone="gone")
    with pytest.raises(UserError, match=r"'gone' is neither a file nor a known backbone"):
        cross_fitted(checkpoint, student, gold_texts(60), None)


def test_training_that_fails_says_in_which_fold(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "student")
    student = msgspec.structs.replace(read_student(checkpoint), max_tokens=4000)
    with pytest.raises(UserError, match=r"^baseline gold, fold 1 of 5: max_tokens is 4000; backbone allows 6 to 64$"):
        cross_fitted(tmp_path / "student", student, gold_texts(60), None)
