"""Certificates of several questions: each by itself, all together with the stated confidence, held against new texts."""

import json

import numpy as np
import pytest
from support.tiny_bundle import WORDS, some_heads, write_bundle

from potstill.commands.main import run as console
from potstill.contract.bundle import read_manifest, verify_files, write_manifest, write_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.head import ranges
from potstill.serve.config import CertifyConfig
from potstill.serve.offline.certify_questions import certify, check
from potstill.serve.runtime.classifier import Classifier


@pytest.fixture
def bundle(tmp_path):
    folder = write_bundle(tmp_path / "bundle", heads=some_heads())
    (folder / "README.md").write_text("# A card\n")
    write_sums(folder)
    return folder


def gold_for(path, bundle, right, seed=0, n=400, names=("move", "asks", "sure")):
    """Texts with the bundle's own answers as gold, but for a share of them. Args: right, by question the share that is right."""
    rng = np.random.default_rng(seed)
    with Classifier.open(bundle) as classifier:
        heads = classifier.manifest.heads
        with path.open("w") as file:
            for i in range(n):
                text = " ".join(rng.choice(WORDS[5:], rng.integers(2, 7))) + f" {i}"
                probs, given = classifier.scorer.probs(text, None), {}
                for head, own in zip(heads, ranges(heads), strict=True):
                    if head.name in names:
                        best = int(np.argmax(probs[own]))
                        wrong = rng.random() >= right.get(head.name, 0.97)
                        given[head.name] = head.labels[(best + wrong) % len(head.labels)]
                file.write(json.dumps({"text": text, "gold": given}) + "\n")
    return path


def test_every_question_with_one_answer_has_a_certificate_and_abstains_below_it(bundle, tmp_path):
    gold = gold_for(tmp_path / "gold.jsonl", bundle, {})
    report = certify(bundle, gold, tmp_path / "out", CertifyConfig(accuracy=0.9))
    verify_files(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert list(manifest.certificates) == ["move", "asks", "sure"]
    assert manifest.certificates == report.certificates
    before = {head.name: head for head in read_manifest(bundle).heads}
    for head in manifest.heads:
        if head.name == "topics":
            assert head == before["topics"]
            continue
        found = manifest.certificates[head.name]
        assert head.thresholds == dict.fromkeys(head.labels, found.sure) and head.precision is None
        assert found.confidence == pytest.approx(1 - 0.05 / 3)  # all three together have 95 %
        assert found.n_right / found.n_answered >= 0.9
        assert sum(found.label_shares.values()) == pytest.approx(1)
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.count("## Certificates") == 1 and "### asks" in card
    assert "asks: certificate of accuracy: answers at or above" in report.as_text()
    assert "all 3 certificates hold together with at least 95% confidence" in report.as_text()
    with Classifier.open(tmp_path / "out") as classifier:
        answer = classifier.classify(["the price will rise"])[0].questions["move"]
    assert answer.abstain == (max(answer.probs.values()) < manifest.certificates["move"].sure)


def test_a_question_that_nothing_is_shown_of_is_noted_and_one_that_is_named_is_refused(bundle, tmp_path):
    gold = gold_for(tmp_path / "gold.jsonl", bundle, {"sure": 0.3})
    report = certify(bundle, gold, tmp_path / "out", CertifyConfig(accuracy=0.9))
    assert set(report.certificates) == {"move", "asks"}
    assert any(note.startswith("sure: no switch shows an accuracy of 0.9") for note in report.notes)
    with pytest.raises(UserError, match="^sure: no switch shows an accuracy of 0.9"):
        certify(bundle, gold, tmp_path / "other", CertifyConfig(accuracy=0.9, questions=("move", "sure")))
    assert not (tmp_path / "other").exists()


def test_certifying_one_question_later_keeps_the_others(bundle, tmp_path):
    gold = gold_for(tmp_path / "gold.jsonl", bundle, {})
    certify(bundle, gold, config=CertifyConfig(questions=("move",)))
    certify(bundle, gold, config=CertifyConfig(questions=("asks",), accuracy=0.8))
    found = read_manifest(bundle).certificates
    assert {name: one.accuracy for name, one in found.items()} == {"move": 0.9, "asks": 0.8}
    assert found["asks"].confidence == 0.95
    card = (bundle / "README.md").read_text()
    assert card.count("## Certificates") == 1 and "### move" in card and "### asks" in card


def test_new_texts_break_the_certificate_of_the_question_that_they_contradict(bundle, tmp_path, capsys):
    certify(bundle, gold_for(tmp_path / "gold.jsonl", bundle, {}))
    assert not check(bundle, gold_for(tmp_path / "alike.jsonl", bundle, {}, seed=1)).broken
    worse = gold_for(tmp_path / "worse.jsonl", bundle, {"asks": 0.6}, seed=2, names=("move", "asks"))
    report = check(bundle, worse)
    assert {name: one.broken for name, one in report.reports.items()} == {"move": False, "asks": True}
    assert report.notes == ["no text has a gold answer to sure"]
    assert console(["check", str(bundle), str(worse)]) == 1
    assert "the certificate is broken: certify again on texts of this kind" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"questions": ("mood",)}, "--question is 'mood'; it answers move, asks, topics, sure"),
        ({"questions": ("topics",)}, "topics is about tags, which are not certified; choose their precision on gold"),
    ],
)
def test_what_cannot_be_certified_is_said(bundle, tmp_path, config, problem):
    gold = gold_for(tmp_path / "gold.jsonl", bundle, {}, n=20)
    with pytest.raises(UserError) as caught:
        certify(bundle, gold, tmp_path / "out", CertifyConfig(**config))
    assert str(caught.value).startswith(f"{bundle}: {problem}")


def test_without_a_certificate_there_is_nothing_to_check(bundle, tmp_path):
    gold = gold_for(tmp_path / "gold.jsonl", bundle, {}, n=20)
    with pytest.raises(UserError, match="has no certificate of any question; make them with: potstill certify"):
        check(bundle, gold)


def test_a_question_s_name_is_no_option_of_one_choice(tmp_path):
    bundle = write_bundle(tmp_path / "one", precision=None)
    (tmp_path / "gold.jsonl").write_text(json.dumps({"text": "rise", "gold": "up"}) + "\n")
    with pytest.raises(UserError, match="answers one choice, and --question is for a bundle of several questions; leave it out"):
        certify(bundle, tmp_path / "gold.jsonl", config=CertifyConfig(questions=("move",)))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda found: {"topics": found["move"]}, "certificates.topics: is not of a question with one answer"),
        (lambda found: {"mood": found["move"]}, "certificates.mood: is not of a question with one answer"),
        (lambda found: {"move": {**found["move"], "n_right": 10**6}}, "certificates.move: says 1000000 right"),
        (lambda found: {"move": {**found["move"], "confidence": 1.0}}, "certificates.move.confidence: is 1.0"),
    ],
)
def test_a_certificate_that_cannot_be_true_is_refused(bundle, tmp_path, change, place):
    certify(bundle, gold_for(tmp_path / "gold.jsonl", bundle, {}))
    content = json.loads((bundle / "bundle.json").read_text())
    content["certificates"] = change(content["certificates"])
    (bundle / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=place.replace(".", r"\.")):
        read_manifest(bundle)


def test_a_bundle_without_certificates_is_written_as_versions_before_them_read_it(bundle):
    assert "certificates" not in json.loads((bundle / "bundle.json").read_text())
    write_manifest(bundle, read_manifest(bundle))
    assert "certificates" not in json.loads((bundle / "bundle.json").read_text())
