"""A bundle with several questions: what a classifier says about each, against scipy's functions and laws."""

import math
import re

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from support.tiny_bundle import LABELS, a_manifest, some_heads, write_bundle

from potstill.contract.bundle import Golden, read_golden, write_golden, write_sums
from potstill.contract.errors import UserError
from potstill.contract.questions.head import ranges
from potstill.serve.runtime.classifier import Classifier
from potstill.serve.runtime.heads import HeadReader, sigmoid_row
from potstill.serve.runtime.session import OUTPUT

TEXTS = ["the price will rise!", "fall", "stay. stay?", "", "a b c will d e f", "the the price!", "rise fall rise"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("heads") / "bundle", heads=some_heads())


@pytest.fixture(scope="module")
def classifier(bundle):
    with Classifier.open(bundle) as classifier:
        yield classifier


def expected(head, logits):
    """scipy's probabilities of a head's logits [B, C]."""
    scaled = logits.astype(np.float64) / head.temperature + np.array(head.bias or [0.0] * len(head.labels))
    return softmax(scaled, axis=1) if head.kind != "tags" else expit(scaled)


def test_every_question_has_the_probabilities_of_its_own_outputs(classifier):
    logits, probs = classifier.logits(TEXTS), classifier.probs(TEXTS)
    heads = classifier.manifest.heads
    for head, part in zip(heads, ranges(heads), strict=True):
        np.testing.assert_allclose(probs[:, part], expected(head, logits[:, part]), atol=1e-12)
    answers = classifier.classify(TEXTS)
    assert [list(answer.questions) for answer in answers] == [["move", "asks", "topics", "sure"]] * len(TEXTS)
    for answer, row in zip(answers, probs, strict=True):
        assert [prob for one in answer.questions.values() for prob in one.probs.values()] == row.tolist()
        assert (answer.label, answer.probs) == ("", {})


def test_the_outputs_of_the_single_questions_are_parts_of_all_logits(classifier):
    feeds = classifier.tokenizer.ids(TEXTS[0])
    names = [f"{OUTPUT}.{head.name}" for head in classifier.manifest.heads]
    whole, *parts = classifier.session.run([OUTPUT, *names], feeds)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_each_kind_says_what_it_is_for(classifier):
    for answer in classifier.classify(TEXTS):
        move, asks, topics, sure = answer.questions.values()
        assert move.label == max(move.probs, key=move.probs.get) and move.tags is None and move.value is None
        assert set(asks.probs) == {"yes", "no"} and math.isclose(sum(asks.probs.values()), 1)
        assert topics.label == "" and not topics.abstain
        assert topics.tags == [name for name, prob in topics.probs.items() if prob >= (0.95 if name == "chart" else 0.5)]
        assert math.isclose(sure.value, 0.5 * sure.probs["middle"] + sure.probs["high"])


def test_a_threshold_is_that_of_its_own_question(classifier):
    asks = [answer.questions["asks"] for answer in classifier.classify(TEXTS)]
    assert {one.label for one in asks} == {"yes", "no"}
    for one in asks:
        missed = one.label == "yes" and one.probs["yes"] < 0.75
        verdict = "no threshold" if one.label == "no" else "missed" if missed else "reached"
        assert (one.abstain, one.verdict, one.threshold) == (missed, verdict, 0.75 if one.label == "yes" else 0.0)


@pytest.mark.parametrize("without", [None, "topics"])
def test_a_text_is_abstained_on_when_every_question_is(tmp_path, without):
    never = {name: {"thresholds": dict.fromkeys(head.labels)} for name, head in zip(NAMES, some_heads(), strict=True)}
    heads = [head for head in some_heads(**never) if head.name != without]
    with Classifier.open(write_bundle(tmp_path / "bundle", heads=heads)) as classifier:
        (answer,) = classifier.classify(["rise"])
    abstained = [name for name, one in answer.questions.items() if one.abstain]
    assert abstained == ["move", "asks", "sure"] and answer.abstain is (without == "topics")
    assert answer.questions["sure"].threshold is None and answer.questions["sure"].verdict == "never answered"
    if without is None:
        assert answer.questions["topics"].tags == []


NAMES = [head.name for head in some_heads()]


def test_label_sets_are_those_of_the_questions_that_have_them(classifier):
    (answer,) = classifier.classify(["rise"], sets=True)
    move = answer.questions["move"]
    assert move.label_set == [name for name, prob in move.probs.items() if 1 - prob <= 0.8] != []
    assert all(one.label_set is None for name, one in answer.questions.items() if name != "move")


def test_a_bundle_whose_questions_have_no_quantile_refuses_label_sets(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", heads=some_heads(move={"conformal": None}))
    with Classifier.open(bundle) as classifier, pytest.raises(UserError, match="this bundle has no conformal quantile"):
        classifier.classify(["rise"], sets=True)


def test_without_all_scores_only_what_is_answered_has_a_probability(classifier):
    for whole, short in zip(classifier.classify(TEXTS), classifier.classify(TEXTS, all_scores=False), strict=True):
        for name, one in short.questions.items():
            assert list(one.probs) == ([one.label] if one.tags is None else one.tags)
            assert one == msgspec.structs.replace(whole.questions[name], probs=one.probs)
            assert one.probs.items() <= whole.questions[name].probs.items()


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(len(TEXTS))))
def test_the_answers_of_a_text_do_not_depend_on_its_company(classifier, order):
    alone = [classifier.classify([text])[0] for text in TEXTS]
    assert classifier.classify([TEXTS[at] for at in order]) == [alone[at] for at in order]


def test_one_choice_as_the_only_head_is_answered_as_a_bundle_of_one_question(tmp_path):
    fields = {"temperature": 1.5, "thresholds": {"up": 0.5, "down": None}, "bias": [0.5, 0.0, -1.0]}
    head = msgspec.structs.replace(some_heads()[0], **fields)
    with (
        Classifier.open(write_bundle(tmp_path / "one", **fields)) as one,
        Classifier.open(write_bundle(tmp_path / "headed", heads=[head])) as headed,
    ):
        for plain, answer in zip(one.classify(TEXTS), headed.classify(TEXTS), strict=True):
            move = answer.questions["move"]
            assert (move.label, move.probs, move.abstain, move.verdict, move.threshold) == (
                plain.label, plain.probs, plain.abstain, plain.verdict, plain.threshold,
            )  # fmt: skip
            assert answer.abstain == plain.abstain
        assert one.probs(TEXTS).tolist() == headed.probs(TEXTS).tolist()


def test_an_answer_to_one_question_says_nothing_of_questions(tmp_path):
    with Classifier.open(write_bundle(tmp_path / "bundle")) as classifier:
        (answer,) = classifier.classify(["rise"])
    assert answer.questions is None and set(msgspec.to_builtins(answer)) == {"label", "probs", "abstain"}


@pytest.mark.parametrize("at", range(11))
def test_a_golden_probability_of_any_question_that_drifts_is_refused(bundle, tmp_path, at):
    folder = write_bundle(tmp_path / "bundle", heads=some_heads())
    first, *rest = read_golden(folder)
    probs = [prob + 0.05 * (n == at) for n, prob in enumerate(first.probs)]
    write_golden(folder, [Golden(text=first.text, probs=probs), *rest])
    write_sums(folder)
    with pytest.raises(UserError, match="the golden texts drifted") as error:
        Classifier.open(folder)
    assert re.search(r"moves a probability by 0\.05", str(error.value))


def test_the_sigmoid_is_that_of_arrays_and_never_overflows():
    values = [-1e307, -800.0, -20.0, -1.0, 0.0, 1e-3, 3.0, 40.0, 800.0, 1e307]
    np.testing.assert_allclose(sigmoid_row(values, 0.5, [0.25] * 10), expit(np.array(values) / 0.5 + 0.25), rtol=1e-12)


def test_the_reader_of_heads_takes_as_many_logits_as_they_have_labels():
    heads = a_manifest(heads=some_heads()).heads
    assert len(HeadReader(heads).probs([0.0] * 11)) == 11 == sum(len(head.labels) for head in heads)
    assert heads[0].labels == LABELS
