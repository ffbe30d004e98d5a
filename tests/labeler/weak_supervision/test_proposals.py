"""Proposed rules are judged on texts they were not found in, against chance, and none gets into a task without being accepted."""

import math
import random

import numpy as np
import pytest
from scipy.stats import fisher_exact
from support.small_task import SMALL_TASK

from potstill.contract.errors import FormatError, UserError
from potstill.contract.task import Rule, load_task
from potstill.contract.texts import Text
from potstill.labeler.teacher import Identity, TeacherPath
from potstill.labeler.weak_supervision.proposals.gate import LEVEL, MIN_TEXTS, Proposal, TeacherLabels, holm, judged
from potstill.labeler.weak_supervision.proposals.record import ProposalRecord, add_to_task, read_record, write_record
from potstill.labeler.weak_supervision.proposals.teacher_words import CUE, named_phrases, propose_by_teacher
from potstill.labeler.weak_supervision.proposals.words import log_odds, phrases, propose_words

pytestmark = pytest.mark.slow

LABELS = ["up", "down"]
FILLERS = "the price will today maybe acme and so on it goes they say again after noon".split()


def some_labels(n=600, seed=0, clue="calls galore", accuracy=0.9):
    """Texts of two labels; a third of the first label's hold the clue. The teacher is right as often as stated."""
    rng = random.Random(seed)
    texts, probs = [], []
    for i in range(n):
        label = rng.randrange(2)
        words = rng.choices(FILLERS, k=8)
        if label == 0 and rng.random() < 1 / 3:
            words.insert(4, clue)
        texts.append(Text(" ".join([*words, str(i)]), str(i)))
        said = label if rng.random() < accuracy else 1 - label
        probs.append([0.1, 0.9] if said else [0.9, 0.1])
    return TeacherLabels(texts, LABELS, np.array(probs))


def keyword(word, label="up", name=None):
    return Proposal(Rule(name=name or f"{label}: {word}", label=label, keywords=[word]), "words")


def test_a_clue_is_found_and_passes_and_words_without_meaning_do_not():
    labels = some_labels()
    proposals = propose_words(labels)
    assert "up: calls galore" in [one.rule.name for one in proposals] or "up: calls" in [one.rule.name for one in proposals]
    passed = [row for row in judged(proposals, labels) if row.passed]
    assert passed and all("calls" in row.rule.keywords[0] or "galore" in row.rule.keywords[0] for row in passed)
    assert passed[0].agreement > 0.8 and passed[0].chance == pytest.approx(0.5, abs=0.1) and 0.1 < passed[0].coverage < 0.25
    assert all("calls galore" in example for example in passed[0].examples)


def test_where_the_teacher_guesses_hardly_any_rule_passes():
    n_passed = 0
    for seed in range(20):
        labels = some_labels(seed=seed, accuracy=0.5)
        n_passed += any(row.passed for row in judged(propose_words(labels), labels))
    assert n_passed <= 4  # one in twenty is the promise; more than four would be chance in 1 of 400 cases


def test_the_halves_have_no_text_in_common_and_are_the_same_every_time():
    labels = some_labels()
    assert 0.4 < labels.judging.mean() < 0.6
    fewer = TeacherLabels(labels.texts[::3], LABELS, labels.probs[::3])
    np.testing.assert_array_equal(fewer.judging, labels.judging[::3])


def test_words_of_the_judging_half_are_not_looked_at():
    labels = some_labels()
    swapped = [
        text if not judge else Text("nothing to see here", text.id)
        for text, judge in zip(labels.texts, labels.judging, strict=True)
    ]
    again = TeacherLabels(swapped, LABELS, labels.probs)
    known = {phrase for text, judge in zip(labels.texts, labels.judging, strict=True) if not judge for phrase in phrases(text.text)}
    assert {one.rule.keywords[0] for one in propose_words(labels)} <= known
    assert (
        not {one.rule.keywords[0] for one in propose_words(again)} & {"see", "nothing"}
        or again.judging.sum() != labels.judging.sum()
    )


def test_the_p_value_is_fishers_and_corrected_for_the_number_of_rules():
    labels = some_labels()
    (row,) = judged([keyword("calls galore")], labels)
    texts = [text for text, judge in zip(labels.texts, labels.judging, strict=True) if judge]
    says = labels.probs[labels.judging].argmax(axis=1) == 0
    has = np.array(["calls galore" in text.text for text in texts])
    table = [[(has & says).sum(), (has & ~says).sum()], [(~has & says).sum(), (~has & ~says).sum()]]
    assert row.p_value == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
    many = judged([keyword("calls galore"), *(keyword(f"absent {i}") for i in range(9))], labels)
    assert many[0].p_value == pytest.approx(10 * row.p_value)
    assert many[-1].p_value == 1 and many[-1].agreement == 0 and not many[-1].passed


def test_holm_is_that_of_its_definition():
    assert holm([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert holm([0.4, 0.6]) == [0.8, 0.8] and holm([]) == []


def test_a_rule_that_matches_a_handful_does_not_pass_however_well_the_teacher_agrees():
    labels = some_labels(n=2000)
    places = [i for i, judge in enumerate(labels.judging) if judge and labels.probs[i].argmax() == 0][: MIN_TEXTS - 1]
    texts = [Text(f"{text.text} rare", text.id) if i in places else text for i, text in enumerate(labels.texts)]
    alike = TeacherLabels(texts, LABELS, labels.probs)
    rows = judged([keyword("rare")], alike)
    assert not rows[0].passed and rows[0].n_matched < MIN_TEXTS + 1


def test_log_odds_of_a_word_that_every_label_has_are_zero_and_signs_are_opposite():
    scores = log_odds(np.array([[10.0, 20.0, 0.0], [10.0, 0.0, 20.0]]))
    assert scores[:, 0] == pytest.approx([0, 0], abs=1e-9) and scores[0, 1] > 2 and scores[0, 2] < -2
    np.testing.assert_allclose(scores[0], -scores[1])


def test_phrases_are_words_that_stand_side_by_side():
    found = set(phrases("Buy calls, now 🚀 it's 5% off"))
    assert {"buy", "buy calls", "🚀", "it's", "5%", "now 🚀 it's"} <= found
    assert "calls now" not in found  # a comma stands between them, so a rule would not match


def test_only_phrases_that_stand_in_the_text_are_taken_from_an_answer():
    assert named_phrases(' "Calls", to the moon, rocket, a, buy more calls now please.', "Buy more calls to the moon") == {
        "calls", "to the moon",
    }  # fmt: skip


class Writer:
    """A teacher that names the first word of each text; what is under test is what becomes of its answers."""

    def __init__(self):
        self.prompts = []

    @property
    def identity(self):
        return Identity("writer", "d", "d", "b")

    def answer(self, prefix, variant, requests, spec, run_seed, enough=None):
        self.prefix = prefix
        for request in requests:
            self.prompts.append(request.prompt)
            first = request.prompt.split("Text: ")[1].split()[0]
            for path in request.paths:
                yield TeacherPath(request.text_id, path, variant, 0, f" {first}, nonsense", (-1.0, -1.0), 1, 1)

    def close(self):
        pass


def test_the_teacher_is_shown_unsure_texts_with_their_label_and_examples_with_known_words(tmp_path):
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    task, labels, writer = load_task(tmp_path / "task.toml"), some_labels(), Writer()
    proposals = propose_by_teacher(task, labels, writer, {"up": ["buy"], "down": []})
    assert f"Text: I buy\nAnswer: up\n{CUE} buy\n" in writer.prefix and "I sell" not in writer.prefix
    assert all(prompt.endswith(f"\n{CUE}") for prompt in writer.prompts)
    shown = {labels.texts[i].text for i in np.flatnonzero(labels.judging)}
    assert not any(text in prompt for text in shown for prompt in writer.prompts)
    assert {one.origin for one in proposals} == {"teacher"} and {one.rule.label for one in proposals} == set(LABELS)
    assert all(one.rule.keywords[0] in FILLERS or one.rule.keywords[0].isdigit() for one in proposals)


@pytest.fixture
def record():
    labels = some_labels()
    return ProposalRecord(task_digest="d", n_texts=300, rules=judged([keyword("calls galore"), keyword("maybe", "down")], labels))


def test_accepted_rules_stand_at_the_end_of_the_task_and_nothing_else_changes(tmp_path, record):
    path = tmp_path / "task.toml"
    path.write_text("# mine\n" + SMALL_TASK)
    added = add_to_task(path, record, ["up: calls galore"])
    assert [row.rule.name for row in added] == ["up: calls galore"]
    task = load_task(path)
    assert task.rules == [record.rules[0].rule] and path.read_text().startswith("# mine\n" + SMALL_TASK.rstrip("\n"))
    assert "# Proposed by words, accepted: matched " in path.read_text()
    before = path.read_bytes()
    with pytest.raises(FormatError) as caught:
        add_to_task(path, record, ["up: calls galore"])
    assert str(caught.value) == f"{path}: rules[1].name: repeats 'up: calls galore'; rename one of the two"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("down: maybe", "rule 'down: maybe' did not pass; those that passed: 'up: calls galore'"),
        ("x", "rule 'x' was not proposed; those that passed: 'up: calls galore'"),
    ],
)
def test_a_rule_that_did_not_pass_cannot_be_accepted(tmp_path, record, name, problem):
    path = tmp_path / "task.toml"
    path.write_text(SMALL_TASK)
    with pytest.raises(UserError) as caught:
        add_to_task(path, record, ["up: calls galore", name])
    assert str(caught.value) == problem and path.read_text() == SMALL_TASK


def test_a_task_whose_rules_are_written_inline_is_left_as_it_is(tmp_path, record):
    path = tmp_path / "task.toml"
    path.write_text('rules = [{name = "r", label = "up", keywords = ["x"]}]\n' + SMALL_TASK)
    before = path.read_bytes()
    with pytest.raises(
        FormatError, match="rules cannot be added at its end .*; write rules that it has as \\[\\[rules\\]\\] tables$"
    ):
        add_to_task(path, record, ["up: calls galore"])
    assert path.read_bytes() == before


def test_a_record_is_read_as_it_was_written_and_another_format_is_refused(tmp_path, record):
    write_record(tmp_path / "p.json", record)
    assert read_record(tmp_path / "p.json") == record
    (tmp_path / "q.json").write_text((tmp_path / "p.json").read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(FormatError, match="format: is 2; this version reads 1$"):
        read_record(tmp_path / "q.json")
    text = record.as_text()
    assert max(map(len, text.splitlines())) <= 100 and "did not pass: down: maybe" in text
    assert f"p at most {LEVEL:g}" in text and not math.isnan(record.rules[0].p_value)
