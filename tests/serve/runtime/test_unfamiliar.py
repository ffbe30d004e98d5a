"""Texts unlike those that a bundle was made from: a field of the answer that changes nothing else."""

from __future__ import annotations

import msgspec
import pytest
from support.tiny_bundle import a_familiarity, write_bundle

from potstill.contract.bundle import write_sums
from potstill.contract.errors import FormatError
from potstill.serve.runtime.classifier import Classifier

TEXTS = ["the price will rise!", "fall", "", "zzz qqq", "the price will rise zzz", "\N{ROCKET} שלום", "stay " * 3000]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("unfamiliar")
    decision = {"thresholds": {"up": 0.9, "flat": None}}
    return write_bundle(root / "with", familiarity=a_familiarity(), **decision), write_bundle(root / "without", **decision)


def test_a_text_of_other_words_is_unfamiliar_and_one_of_the_pools_is_not(folders):
    with Classifier.open(folders[0]) as classifier:
        answers = classifier.classify(TEXTS)
    assert [answer.unfamiliar for answer in answers] == [False, False, False, True, False, True, False]
    # [CLS] and [SEP] score 0 and count as tokens: 5 known words and a mark; one word; nothing; 6 letters; 4 words and 3 letters
    expected = [-5 / 7, -1 / 3, 0.0, 0.7 * 2 / 4, (-4 + 0.7) / 7]
    assert [answer.unfamiliarity for answer in answers[:5]] == pytest.approx(expected)


def test_nothing_else_of_an_answer_changes_and_without_the_file_both_fields_are_empty(folders):
    with Classifier.open(folders[0]) as told, Classifier.open(folders[1]) as plain:
        with_it, without = told.classify(TEXTS), plain.classify(TEXTS)
    assert [(answer.unfamiliar, answer.unfamiliarity) for answer in without] == [(None, None)] * len(TEXTS)
    assert [msgspec.structs.replace(answer, unfamiliar=None, unfamiliarity=None) for answer in with_it] == without
    assert b"unfamiliar" not in msgspec.json.encode(without)


def test_a_text_has_the_same_score_alone_and_among_others(folders):
    with Classifier.open(folders[0]) as classifier:
        assert classifier.classify(TEXTS) == [classifier.classify([text])[0] for text in TEXTS]
        assert classifier.traced(TEXTS[3])[0] == classifier.classify([TEXTS[3]])[0]


def test_a_changed_or_malformed_file_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "bundle", familiarity=a_familiarity())
    path = folder / "familiarity.json"
    path.write_bytes(path.read_bytes().replace(b"0.7", b"0.6"))
    with pytest.raises(FormatError, match=r"familiarity.json: was changed"):
        Classifier.open(folder)
    path.write_bytes(path.read_bytes().replace(b'"n":40', b'"n":4'))
    write_sums(folder)
    with pytest.raises(FormatError, match=r"familiarity.json: n: is 4; a rate of 0.05 needs at least 19 texts"):
        Classifier.open(folder)
