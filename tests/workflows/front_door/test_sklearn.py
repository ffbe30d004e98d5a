"""`potstill.sklearn.PotstillClassifier` keeps scikit-learn's rules, with a tiny backbone and a teacher that follows a rule."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pandas
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils import estimator_checks as checks
from support.tiny_backbone import VOCABULARY, write_backbone
from support.toy_task import CLUES, LABELS, a_task, a_text, quick

from potstill.contract.errors import UserError
from potstill.export.config import ExportConfig
from potstill.labeler.config import LabelConfig
from potstill.serve.offline.verify import verify
from potstill.sklearn import PotstillClassifier

pytestmark = pytest.mark.slow

EXPORT = ExportConfig(variant="float", threads=1)
# Of scikit-learn's checks those that do not fit on tables of numbers, which are no texts.
RULES = [
    checks.check_no_attributes_set_in_init,
    checks.check_do_not_raise_errors_in_init_or_set_params,
    checks.check_get_params_invariance,
    checks.check_set_params,
    checks.check_estimator_repr,
    checks.check_estimator_cloneable,
    checks.check_valid_tag_types,
    checks.check_estimator_tags_renamed,
    checks.check_mixin_order,
]


def a_pool(n, seed=0):
    """(texts, labels) of the toy task, which a word gives away."""
    rng = random.Random(seed)
    labels = [LABELS[i % len(LABELS)] for i in range(n)]
    return [a_text(rng, label) for label in labels], labels


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    return quick(write_backbone(tmp_path_factory.mktemp("backbone"), VOCABULARY))


@pytest.fixture(scope="module")
def fitted(training):
    return PotstillClassifier(train=training, export=EXPORT).fit(*a_pool(300))


def test_labels_that_are_there_are_learned(fitted):
    texts, labels = a_pool(60, seed=1)
    assert fitted.classes_.tolist() == sorted(LABELS)
    assert fitted.score(texts, labels) > 0.9
    probs = fitted.predict_proba(texts)
    assert probs.shape == (60, 3) and np.allclose(probs.sum(axis=1), 1)
    assert (fitted.classes_[probs.argmax(axis=1)] == fitted.predict(texts)).all()
    assert is_classifier(fitted) and verify(fitted.bundle_).problems == []


def test_a_list_an_array_a_series_and_a_table_are_the_same_texts(fitted):
    texts, _ = a_pool(9, seed=2)
    expected = fitted.predict_proba(texts)
    column = np.array(texts, dtype=object).reshape(-1, 1)
    for form in (np.array(texts), column, pandas.Series(texts), pandas.DataFrame({"text": texts, "stars": range(9)})):
        np.testing.assert_array_equal(fitted.predict_proba(form), expected)


def test_a_pickled_classifier_carries_its_bundle(training):
    texts, labels = a_pool(120)
    classifier = PotstillClassifier(train=training, export=EXPORT).fit(texts, labels)
    expected, data, folder = classifier.predict_proba(texts[:5]), pickle.dumps(classifier), classifier.bundle_
    del classifier
    assert not folder.exists()  # the temporary folder went with its classifier
    np.testing.assert_array_equal(pickle.loads(data).predict_proba(texts[:5]), expected)


def test_labels_may_be_numbers_and_cross_validation_scores_clones(training):
    texts, labels = a_pool(240)
    numbers = np.array([LABELS.index(label) + 7 for label in labels])
    classifier = PotstillClassifier(train=training, export=EXPORT)
    assert cross_val_score(classifier, np.array(texts), numbers, cv=2).mean() > 0.8
    assert not hasattr(classifier, "classes_")


def test_without_labels_the_teacher_gives_them(training, ruled_teacher, monkeypatch, tmp_path):
    clues = [set(CLUES[label]) for label in LABELS]

    def logprobs(prompt, path):
        words = set(prompt.rsplit("\n\n", 1)[-1].split())
        return [-0.1 if words & clue else -4.0 for clue in clues]

    teacher = ruled_teacher(logprobs)
    monkeypatch.setattr("potstill.workflows.teacher.open_teacher", lambda name, **options: teacher)
    texts, labels = a_pool(300)
    label = LabelConfig(mode="direct", n_paths=2)
    classifier = PotstillClassifier(a_task(), label=label, train=training, export=EXPORT, out=tmp_path / "out").fit(texts)
    assert classifier.score(texts, labels) > 0.8
    assert (tmp_path / "out" / "labels.db").is_file() and classifier.bundle_ == tmp_path / "out" / "bundle"


@pytest.mark.parametrize(
    ("task", "rows", "labels", "message"),
    [
        (False, ["a"], None, "there is neither a task nor y; give a task whose question a teacher answers, or labels to learn"),
        (False, "a", ["x"], "X is one string; give a list of texts"),
        (False, [], [], "X has the shape (0,); give at least one text, in one column"),
        (False, [["a", "b"]], ["x"], "X has the shape (1, 2); give at least one text, in one column"),
        (False, ["a", None], ["x", "y"], "X[1] is None; every text must be a string"),
        (False, ["a", "b"], ["x"], "y has the shape (1,); give one label for each of the 2 texts"),
        (False, ["a", "b"], ["x", "x"], "y has only the label np.str_('x'); there must be at least 2"),
        (True, ["a", "b"], ["up", "left"], "y has 'left', which is not a label of the task; allowed: up, flat, down"),
        (False, pandas.DataFrame({"body": ["a"]}), ["x"], "the table has the columns body; one must be 'text'"),
    ],
)
def test_what_cannot_be_learned_is_one_line(task, rows, labels, message):
    with pytest.raises(UserError) as caught:
        PotstillClassifier(a_task() if task else None).fit(rows, labels)
    assert str(caught.value) == message.replace("np.str_('x')", "'x'")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_estimator_keeps_scikit_learn_s_rule(rule):
    rule("PotstillClassifier", PotstillClassifier())


def test_before_fit_nothing_is_answered(fitted):
    for classifier in (PotstillClassifier(), clone(fitted)):
        with pytest.raises(NotFittedError):
            classifier.predict(["a"])
