"""Thresholds and label sets of several questions, chosen on gold: each question by itself, tags by what is said to hold."""

import json
import shutil

import numpy as np
import pytest
from support.tiny_backbone import joint_student
from support.toy_questions import answered_gold

from potstill.commands.main import run as console
from potstill.contract.checkpoint import read_student
from potstill.contract.errors import UserError
from potstill.contract.scores.bounds import Promise
from potstill.contract.texts import Text, write_texts
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.calibrate_on_gold import ConfidenceConfig
from potstill.trainer.joint.tags import best_f1_on_gold, fit_precise_tags
from potstill.workflows.evaluation import calibrate

pytestmark = pytest.mark.slow
POINT = Promise("point", 0.95)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(checkpoint of the four toy questions, gold file of 300 texts)."""
    folder = tmp_path_factory.mktemp("calibrated")
    checkpoint, _ = joint_student(folder, family="static", epochs=8)
    (folder / "gold.jsonl").write_bytes(write_texts(answered_gold(300)))
    return checkpoint, folder / "gold.jsonl"


@pytest.fixture
def checkpoint(files, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(files[0], tmp_path / "student")


def by_name(checkpoint):
    return {head.name: head for head in read_student(checkpoint).heads}


def test_every_question_has_thresholds_and_sets_by_people_s_labels(files, checkpoint):
    report = calibrate(checkpoint, files[1], ConfidenceConfig(precision=0.8, coverage=0.9))
    heads = by_name(checkpoint)
    for name, head in heads.items():
        assert set(head.thresholds) == set(head.labels)
        assert (head.precision.wanted, head.precision.source, head.precision.n) == (0.8, "gold", 300)
        assert (head.conformal is None) == (name == "topics")
    assert heads["move"].conformal.source == "gold"
    text = report.as_text()
    assert "by people's labels" in text and "holds from" in text and "for every tag on texts of this kind" in text


def test_only_the_named_questions_change(files, checkpoint):
    before = by_name(checkpoint)
    calibrate(checkpoint, files[1], ConfidenceConfig(precision=0.7, rule="point", questions=("asks", "topics")))
    after = by_name(checkpoint)
    assert (after["move"], after["sure"]) == (before["move"], before["sure"])
    assert after["asks"] != before["asks"] and after["topics"].precision.confidence is None


def test_the_bundle_says_tags_by_the_thresholds_of_gold(files, checkpoint, tmp_path):
    calibrate(checkpoint, files[1], ConfidenceConfig(precision=0.95, rule="point", questions=("topics",)))
    assert by_name(checkpoint)["topics"].thresholds
    bundle = export_bundle(checkpoint, tmp_path / "bundle", ExportConfig(variant="float", threads=1)).bundle
    with Classifier.open(bundle) as classifier:
        assert {h.name: h.thresholds for h in classifier.manifest.heads}["topics"] == pytest.approx(
            by_name(checkpoint)["topics"].thresholds, abs=0.1
        )


def test_a_question_without_gold_stays_as_it_is_and_a_note_says_so(checkpoint, tmp_path):
    texts = [
        Text(text.text, text.id, gold=json.dumps({"move": json.loads(text.gold)["move"]})) for text in answered_gold(40, seed=2)
    ]
    (tmp_path / "gold.jsonl").write_bytes(write_texts(texts))
    before = by_name(checkpoint)
    report = calibrate(checkpoint, tmp_path / "gold.jsonl", ConfidenceConfig(precision=0.8, rule="point"))
    after = by_name(checkpoint)
    assert after["topics"] == before["topics"] and after["move"] != before["move"]
    assert "note: no text has a gold answer to topics, so it stays as it is" in report.as_text()


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"coverage": 0.9, "questions": ("topics",)}, "nothing is wanted of topics (tags): --precision is for every kind"),
        ({"best_f1": True, "questions": ("move",)}, "nothing is wanted of move (choice): --precision is for every kind"),
        ({"precision": 0.9, "questions": ("mood",)}, "--question is 'mood'; the student answers move, asks, topics, sure"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(files, checkpoint, config, problem):
    before = (checkpoint / "student.json").read_bytes()
    with pytest.raises(UserError) as caught:
        calibrate(checkpoint, files[1], ConfidenceConfig(**config))
    assert str(caught.value).startswith(problem)
    assert (checkpoint / "student.json").read_bytes() == before


def test_too_few_gold_answers_name_the_question(checkpoint, tmp_path):
    (tmp_path / "gold.jsonl").write_bytes(write_texts(answered_gold(8)))
    with pytest.raises(UserError) as caught:
        calibrate(checkpoint, tmp_path / "gold.jsonl", ConfidenceConfig(precision=0.8))
    assert str(caught.value) == (
        "move: there are 8 texts to choose thresholds on; give at least 10; or name the other questions with --question"
    )


def test_the_console_chooses_tags_by_f1(files, checkpoint, capsys):
    assert console(["calibrate", str(checkpoint), str(files[1]), "--best-f1"]) == 0
    out = capsys.readouterr().out
    assert "topics:" in out and "chosen by F1 on 300 texts" in out and "move:" not in out
    assert by_name(checkpoint)["topics"].precision is None


# --- the thresholds themselves


def made(n=4000, seed=0):
    """(calibrated probabilities [n, 2], gold [n, 2]) of a common and a rare tag."""
    rng = np.random.default_rng(seed)
    probs = np.stack([rng.beta(0.5, 0.5, n), rng.beta(0.15, 1.2, n)], axis=1)
    return probs, (rng.random((n, 2)) < probs).astype(np.int64)


def test_a_point_precision_is_reached_on_the_texts_at_hand_and_by_no_lower_threshold():
    probs, gold = made()
    for t, row in enumerate(fit_precise_tags(probs, gold, ["common", "rare"], 0.9, POINT).per_tag):
        said = probs[:, t] >= row.threshold
        assert gold[said, t].mean() >= 0.9 and row.n == said.sum()
        lower = np.sort(probs[(probs[:, t] < row.threshold) & (probs[:, t] >= 0.5), t])[-40:]
        assert all(gold[probs[:, t] >= least, t].mean() < 0.9 for least in lower)


def test_a_bound_holds_for_rare_tags_too_and_is_broken_about_as_often_as_it_says():
    probs, gold = made(40_000, seed=1)
    broken, n_chosen = 0, 0
    for seed in range(60):
        sample = np.random.default_rng(seed).choice(len(probs), 4000, replace=False)
        found = fit_precise_tags(probs[sample], gold[sample], ["common", "rare"], 0.8, Promise("bound", 0.9)).by_tag
        n_chosen += sum(least is not None for least in found.values())
        said = [probs[:, t] >= least for t, least in enumerate(found.values()) if least is not None]
        broken += any(gold[one, t].mean() < 0.8 for t, one in enumerate(said))
    assert n_chosen > 75 and broken <= 12  # 6 of 60 are expected at most; 12 is beyond three deviations


def test_no_tag_holds_below_a_half_for_a_high_precision():
    probs = np.tile(np.linspace(0.01, 0.99, 1000)[:, None], (1, 1))
    gold = np.ones_like(probs, dtype=np.int64)
    for promise in (POINT, Promise("bound", 0.95)):
        least = fit_precise_tags(probs, gold, ["all"], 0.8, promise).by_tag["all"]
        assert 0.5 <= least < 0.52


def test_a_tag_that_no_threshold_makes_precise_is_never_said_to_hold():
    probs, gold = made(300)
    found = fit_precise_tags(probs, np.zeros_like(gold), ["common", "rare"], 0.9, POINT)
    assert found.by_tag == {"common": None, "rare": None}
    assert "common: never said to hold" in found.as_text()


def test_f1_on_gold_moves_a_threshold_only_where_that_is_better_on_both_halves():
    rng = np.random.default_rng(0)
    truth = rng.random(2000) < 0.3
    shy = np.where(truth, rng.uniform(0.2, 0.5, 2000), rng.uniform(0.0, 0.25, 2000))  # right, but never above a half
    found = best_f1_on_gold(np.stack([shy], axis=1), truth[:, None].astype(np.int64), ["shy"])
    assert 0.15 < found.by_tag["shy"] < 0.3 and found.per_tag[0].recall > 0.8
    with pytest.raises(UserError, match="there are 50 texts to choose tags by F1 on; give at least 100"):
        best_f1_on_gold(np.full((50, 1), 0.5), np.ones((50, 1), dtype=np.int64), ["one"])
