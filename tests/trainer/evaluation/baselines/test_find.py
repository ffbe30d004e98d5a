from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.toy_task import LABELS, a_task, gold_texts, soft_label, toy_rows

from potstill.contract.errors import UserError
from potstill.contract.scores import metrics
from potstill.trainer.data.rows import TrainingRows
from potstill.trainer.evaluation.baselines.find import BaselineInputs, built_in_baseline
from potstill.trainer.evaluation.gold import Gold
from potstill.trainer.evaluation.label_map import parse_label_map

pytestmark = pytest.mark.slow


def inputs_for(training_rows, texts=None, entries=()):
    label_map = parse_label_map(entries, LABELS)
    texts = [text for text in texts or gold_texts(60) if text.gold in label_map.scored]
    return BaselineInputs(
        Path("student"), SimpleNamespace(labels=LABELS), Gold(Path("gold.jsonl"), texts, label_map, tuple(LABELS)), training_rows
    )


def halves(rows):
    return TrainingRows(rows[40:], rows[:40])


def test_the_majority_comes_from_the_soft_labels_where_there_are_any():
    rows = [soft_label(f"text {i}", "down" if i % 4 else "up", a_task()) for i in range(140)]
    system = built_in_baseline("majority", inputs_for(halves(rows)))
    np.testing.assert_allclose(system.probs, np.tile([0.25, 0, 0.75], (60, 1)))
    assert system.note == "always 'down': shares of the soft labels"


def test_without_soft_labels_the_majority_is_that_of_the_gold_texts_and_no_constant_is_better():
    texts = [text for i, text in enumerate(gold_texts(60)) if text.gold == "flat" or i % 3]
    inputs = inputs_for(None, texts)
    system = built_in_baseline("majority", inputs)
    assert system.note == "always 'flat': shares of the gold labels, because --soft-labels is not given"
    gold = inputs.gold.classes
    others = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    assert metrics.log_loss(system.probs, gold) <= min(metrics.log_loss(np.tile(each, (len(gold), 1)), gold) for each in others)
    assert metrics.accuracy(system.probs, gold) == np.bincount(gold).max() / len(gold)


def test_tfidf_on_soft_labels_beats_the_majority_on_separable_texts():
    inputs = inputs_for(halves(toy_rows(240, a_task())))
    gold = inputs.gold.classes
    words, constant = (metrics.macro_f1(built_in_baseline(name, inputs).probs, gold) for name in ("tfidf", "majority"))
    assert words > 0.95 > 0.5 > constant


def test_with_a_label_left_out_the_others_are_brought_back_to_one():
    inputs = inputs_for(halves(toy_rows(240, a_task())), entries=["flat="])
    for name in ("tfidf", "majority"):
        probs = built_in_baseline(name, inputs).probs
        assert probs.shape == (len(inputs.gold.texts), 2)
        np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert metrics.accuracy(built_in_baseline("tfidf", inputs).probs, inputs.gold.classes) > 0.95


def test_tfidf_without_soft_labels_is_refused_with_what_to_do():
    with pytest.raises(
        UserError, match=r"^baseline tfidf: is trained on the student's soft labels; name their file with --soft-labels$"
    ):
        built_in_baseline("tfidf", inputs_for(None))
