"""Votes become soft labels of the usual format, by each label model; figures of sources are those of another count."""

import numpy as np
import pytest

from potstill.contract.errors import UserError
from potstill.contract.soft_label import read_soft_labels, write_soft_labels
from potstill.contract.texts import Text
from potstill.labeler.aggregation.path_table import NO_GOLD
from potstill.labeler.weak_supervision.combination import combined, combined_soft_labels, refined_combination, without_sources
from potstill.labeler.weak_supervision.config import LABEL_MODELS, CombineConfig
from potstill.labeler.weak_supervision.figures import as_text, combination_scores, source_figures
from potstill.labeler.weak_supervision.label_models.majority import majority
from potstill.labeler.weak_supervision.votes import source_votes, vote_table

pytestmark = pytest.mark.slow

LABELS = ["up", "flat", "down"]


def some_votes(n=300, seed=0):
    """(gold [N], votes of a soft teacher and four rules)."""
    rng = np.random.default_rng(seed)
    gold, texts = rng.integers(0, 3, n), [Text(f"text {i}", f"{i:03d}") for i in range(n)]
    soft = rng.dirichlet([0.5] * 3, n) + 0.35 * np.eye(3)[gold]
    teacher = {text.id: dict(zip(LABELS, row.tolist(), strict=True)) for text, row in zip(texts, soft, strict=True)}
    sources = [source_votes("teacher", "teacher", texts, LABELS, teacher)]
    for number, label in enumerate((0, 1, 2, 0)):
        fires = rng.random(n) < np.where(gold == label, 0.5, 0.08)
        votes = {text.id: {LABELS[label]: 1.0} if fired else None for text, fired in zip(texts, fires, strict=True)}
        sources.append(source_votes(f"rule {number}", "rule", texts, LABELS, votes))
    return gold, vote_table(texts, LABELS, sources)


@pytest.mark.parametrize("method", LABEL_MODELS)
def test_every_label_model_is_better_than_the_teacher_and_writes_the_usual_format(tmp_path, method):
    gold, votes = some_votes()
    config = CombineConfig(method=method)
    found = combined(votes, config)
    np.testing.assert_allclose(found.probs.sum(axis=1), 1)
    teacher = votes.find("teacher").probs
    assert np.mean(found.probs.argmax(axis=1) == gold) > np.mean(teacher.argmax(axis=1) == gold) + 0.03
    rows = combined_soft_labels(votes, found, config, {}, "task digest")
    write_soft_labels(tmp_path / "combined.parquet", rows)
    assert read_soft_labels(tmp_path / "combined.parquet", labels=LABELS) == rows
    assert {row.method for row in rows} == {f"{method}(5 sources)"}


def test_the_votes_of_a_soft_label_are_those_of_the_sources():
    texts = [Text("one", "a"), Text("two", "b"), Text("none", "c")]
    sources = [
        source_votes("x", "rule", texts, LABELS, {"a": {"up": 1.0}, "b": None, "c": None}),
        source_votes("y", "answers", texts, LABELS, {"a": {"up": 0.6, "down": 0.4}, "b": {"down": 1.0}}),
        source_votes("z", "answers", texts, LABELS, {"a": {"flat": 1.0}}),
    ]
    votes = vote_table(texts, LABELS, sources)
    config = CombineConfig(method="majority")
    first, second = combined_soft_labels(votes, combined(votes, config), config, {}, "t")  # a text without a vote is left out
    assert first.votes == {"up": 2, "flat": 1, "down": 0} and first.n_paths == 3 and first.agreement == pytest.approx(2 / 3)
    assert first.probs == pytest.approx({"up": 1.6 / 3, "flat": 1 / 3, "down": 0.4 / 3})
    assert second.votes == {"up": 0, "flat": 0, "down": 1} and second.majority == "down"


def test_the_origin_of_a_combination_changes_with_its_votes_and_only_with_them():
    _, votes = some_votes()
    config = CombineConfig(method="majority")
    found = combined(votes, config)

    def origin(table):
        return {row.teacher_digest for row in combined_soft_labels(table, combined(table, config), config, {}, "t")}

    assert len(origin(votes)) == 1 and origin(votes) == origin(some_votes()[1])
    assert origin(votes) != origin(without_sources(votes, ("rule 0",)))
    assert found.fit is None


def test_a_source_can_be_left_out_by_its_name():
    _, votes = some_votes()
    assert [source.name for source in without_sources(votes, ("rule 1", "teacher")).sources] == ["rule 0", "rule 2", "rule 3"]
    with pytest.raises(UserError, match="^no source 'rule 9' votes here; those that do: teacher, rule 0, rule 1, rule 2, rule 3$"):
        without_sources(votes, ("rule 9",))
    with pytest.raises(UserError, match="^no source is left to vote; leave out fewer with --without$"):
        without_sources(votes, tuple(source.name for source in votes.sources))


def test_a_text_without_votes_has_the_stated_shares():
    texts = [Text("a", "a"), Text("b", "b")]
    votes = vote_table(texts, LABELS, [source_votes("x", "rule", texts, LABELS, {"a": {"up": 1.0}, "b": None})])
    np.testing.assert_array_equal(majority(votes, np.array([0.5, 0.25, 0.25])), [[1, 0, 0], [0.5, 0.25, 0.25]])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"method": "mean"}, "method is 'mean'; allowed: dawid-skene, majority, snorkel"),
        ({"accuracy": 1.0}, "accuracy is 1; it must be above 0 and below 1"),
        ({"accuracy": float("nan")}, "accuracy is nan; it must be above 0 and below 1"),
        ({"strength": -1.0}, "strength is -1; it must be a number of votes, 0 or more"),
        ({"prior": {"up": 0.5, "flat": 0.4}}, "prior: the shares of up, flat sum to 0.9; they must sum to 1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings, problem):
    with pytest.raises(UserError) as caught:
        CombineConfig(**settings)
    assert str(caught.value) == problem


def test_what_is_believed_before_reaches_the_model():
    _, votes = some_votes(n=60)
    paper, firm = (combined(votes, CombineConfig(strength=strength)).probs for strength in (0, 1000))
    assert np.abs(paper - firm).max() > 0.05
    low, high = (combined(votes, CombineConfig(accuracy=accuracy)).probs for accuracy in (0.5, 0.9))
    assert np.abs(low - high).max() > 0.05


def test_snorkel_needs_three_sources():
    _, votes = some_votes()
    few = without_sources(votes, ("rule 0", "rule 1", "rule 2"))
    with pytest.raises(UserError, match="^method snorkel needs at least 3 sources that vote, and there are 2$"):
        combined(few, CombineConfig(method="snorkel"))


def test_refining_brings_what_a_rule_says_to_texts_that_resemble_its_own():
    rng = np.random.default_rng(0)
    n = 400
    gold = rng.integers(0, 2, n)
    texts = [Text(f"text {i}", f"{i:03d}") for i in range(n)]
    vectors = np.eye(2)[gold] + rng.normal(0, 0.3, (n, 2))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    fires = rng.random(n) < 0.3  # of both labels alike
    votes = {text.id: {"ab"[label]: 1.0} if fired else None for text, label, fired in zip(texts, gold, fires, strict=True)}
    table = vote_table(texts, ["a", "b"], [source_votes("r", "function", texts, ["a", "b"], votes)])
    found = combined(table, CombineConfig())
    refined = refined_combination(found, texts, vectors)
    assert np.mean(found.probs[~fires].argmax(axis=1) == gold[~fires]) < 0.7
    assert np.mean(refined.probs[~fires].argmax(axis=1) == gold[~fires]) > 0.85


@pytest.mark.filterwarnings("ignore:Input has data type int64:FutureWarning")  # Snorkel's own
def test_coverage_overlap_and_conflict_are_those_of_snorkel():
    from snorkel.labeling import LFAnalysis

    gold, votes = some_votes()
    matrix = np.where(votes.voted, votes.probs.argmax(axis=2), -1).T
    theirs = LFAnalysis(matrix)
    figures = source_figures(votes, combined(votes, CombineConfig()), gold)
    np.testing.assert_allclose([row.coverage for row in figures], theirs.lf_coverages())
    np.testing.assert_allclose([row.overlap for row in figures], theirs.lf_overlaps())
    np.testing.assert_allclose([row.conflict for row in figures], theirs.lf_conflicts())
    np.testing.assert_allclose([row.accuracy.value for row in figures], theirs.lf_empirical_accuracies(gold))
    assert [row.labels for row in figures[1:]] == [["up"], ["flat"], ["down"], ["up"]]


def test_the_estimated_accuracy_is_near_the_real_one():
    gold, votes = some_votes(n=3000)
    for row in source_figures(votes, combined(votes, CombineConfig()), gold):
        assert row.estimated_accuracy == pytest.approx(row.accuracy.value, abs=0.1), row.name


def test_only_gold_texts_are_scored_and_the_gain_is_over_what_the_teacher_says_alone():
    gold, votes = some_votes()
    found = combined(votes, CombineConfig())
    some = np.where(np.arange(300) < 100, gold, NO_GOLD)
    right = source_votes(
        "teacher", "teacher", votes.texts, LABELS, {t.id: {LABELS[k]: 1.0} for t, k in zip(votes.texts, gold, strict=True)}
    )
    scores = combination_scores(votes, found, some, {"teacher": right})
    assert scores.n_gold == 100 and scores.best.name == "teacher"
    assert scores.teacher.macro_f1.value == 1 and scores.teacher.gain.value < 0
    assert combination_scores(votes, found, np.full(300, NO_GOLD), {}) is None


def test_the_table_is_a_hundred_columns_wide_and_says_what_is_missing():
    gold, votes = some_votes()
    found = combined(votes, CombineConfig())
    text = as_text(votes, found, source_figures(votes, found, gold), combination_scores(votes, found, gold, {}))
    assert max(map(len, text.splitlines())) <= 100
    assert "  the teacher alone: macro-F1 " in text and text.startswith("300 texts, 5 sources; the labels' shares: up ")
    bare = as_text(votes, found, source_figures(votes, found, np.full(300, NO_GOLD)), None)
    assert bare.endswith("no gold texts, so no scores; give some with --gold")
