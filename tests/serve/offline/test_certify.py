"""A certificate holds on texts to come: as often as it says, and for the bundle and the answers that it was made for."""

import json

import numpy as np
import pytest
from support.tiny_bundle import LABELS, write_bundle

from potstill.commands.main import run as console
from potstill.contract.bundle import read_manifest, verify_files
from potstill.contract.errors import FormatError, UserError
from potstill.contract.scores.bounds import fewest_texts
from potstill.serve.offline.certify import CertifyConfig, certified_switch, certify_bundle, check_certificate
from potstill.serve.runtime.classifier import Classifier

WORDS = ["rise", "fall", "stay", "the", "will", "price"]


# --- the rule


def drawn(rng, n, power=3.0):
    """(probability of the answer, whether it is right): answers are right as often as their probability says, and few are sure."""
    top = 1 / 3 + 2 / 3 * rng.beta(1.0, 1.0, n) ** (1 / power)
    return top, rng.random(n) < top


@pytest.mark.parametrize("n", [150, 400])
@pytest.mark.parametrize("accuracy", [0.8, 0.9])
def test_the_true_accuracy_is_below_the_certified_one_no_oftener_than_the_confidence_allows(n, accuracy):
    rng = np.random.default_rng(7)
    fresh_top, _ = drawn(rng, 200_000)  # of which the accuracy above a switch is known: it is the mean probability
    wrong = 0
    for _ in range(200):
        switch = certified_switch(*drawn(rng, n), drawn(rng, 50)[0], accuracy, 0.9)
        wrong += switch is not None and fresh_top[fresh_top >= switch.sure].mean() < accuracy
    assert wrong <= 200 * 0.1 + 2 * np.sqrt(200 * 0.1 * 0.9)


def test_more_texts_certify_a_larger_share_and_hindsight_is_near():
    rng, reached = np.random.default_rng(1), []
    for n in (200, 1000, 8000):
        found = [certified_switch(*drawn(rng, n), drawn(rng, 50)[0], 0.9, 0.95) for _ in range(20)]
        reached.append(np.mean([0 if switch is None else switch.n_answered / n for switch in found]))
    top, _ = drawn(rng, 200_000)
    falling = np.sort(top)[::-1]
    best = np.mean(np.cumsum(falling) / np.arange(1, len(falling) + 1) >= 0.9)
    assert reached == sorted(reached)
    assert best - 0.1 < reached[-1] <= best + 0.02


def test_answers_that_are_all_right_are_all_certified_and_too_few_of_them_are_not():
    top, reference = np.linspace(0.4, 0.99, 200), np.linspace(0.4, 0.99, 30)
    switch = certified_switch(top, np.ones(200, bool), reference, 0.9, 0.95)
    assert (switch.sure, switch.n_answered, switch.n_right) == (0.0, 200, 200)
    few = fewest_texts(0.9, 1 - 0.05 / 2) - 1
    assert certified_switch(top[:few], np.ones(few, bool), reference, 0.9, 0.95) is None


def test_which_switches_are_tested_does_not_depend_on_the_labels():
    rng = np.random.default_rng(3)
    top, right = drawn(rng, 500)
    reference = drawn(rng, 40)[0]
    found = {certified_switch(top, rng.permutation(right), reference, 0.6, 0.95).sure for _ in range(5)}
    assert found <= {*np.quantile(reference, np.linspace(1, 0, 400)), 0.0}


# --- a bundle


def write_gold(path, bundle, seed, share_right, n=300):
    """Texts whose gold label is the bundle's answer for a share of them, and another label for the rest."""
    rng, rows = np.random.default_rng(seed), {}
    while len(rows) < n:
        rows.setdefault(" ".join(rng.choice([*WORDS, *"abcdefgh"], rng.integers(2, 9))))
    with Classifier.open(bundle) as classifier:
        for text, answer in zip(rows, classifier.classify(list(rows)), strict=True):
            others = [label for label in LABELS if label != answer.label]
            rows[text] = answer.label if rng.random() < share_right else str(rng.choice(others))
    path.write_text("".join(json.dumps({"text": text, "gold": gold}) + "\n" for text, gold in rows.items()))
    return path


@pytest.fixture
def bundle(tmp_path):
    folder = write_bundle(tmp_path / "bundle", precision=None)
    (folder / "README.md").write_text("# A card\n")
    from potstill.contract.bundle import write_sums

    write_sums(folder)
    return folder


def test_a_certified_bundle_abstains_below_the_switch_and_carries_the_certificate(bundle, tmp_path):
    gold = write_gold(tmp_path / "gold.jsonl", bundle, 0, 0.97)
    report = certify_bundle(bundle, gold, tmp_path / "out", CertifyConfig(accuracy=0.9))
    verify_files(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    found = manifest.certificate
    assert found == report.certificate
    assert manifest.thresholds == dict.fromkeys(LABELS, found.sure)
    assert (found.n, found.source, sum(found.label_shares.values())) == (300, "gold", pytest.approx(1))
    assert found.n_right / found.n_answered > 0.9
    assert "## Certificate" in (tmp_path / "out" / "README.md").read_text()
    assert read_manifest(bundle).certificate is None  # the other one is as it was
    assert "with 95% confidence on texts of this kind" in report.as_text()


def test_a_certificate_on_a_teacher_s_labels_says_so_wherever_it_is_shown(bundle, tmp_path):
    gold = write_gold(tmp_path / "gold.jsonl", bundle, 0, 0.97)
    report = certify_bundle(bundle, gold, config=CertifyConfig(accuracy=0.9, source="teacher"))
    assert read_manifest(bundle).certificate.source == "teacher"
    assert "which is not accuracy" in report.as_text()
    assert "agreement, not accuracy" in (bundle / "README.md").read_text()


def test_check_tells_texts_that_keep_the_promise_from_texts_that_break_it(bundle, tmp_path, capsys):
    certify_bundle(bundle, write_gold(tmp_path / "gold.jsonl", bundle, 0, 0.97))
    assert console(["check", str(bundle), str(write_gold(tmp_path / "good.jsonl", bundle, 1, 0.97))]) == 0
    assert capsys.readouterr().out.endswith("the certificate is not contradicted by these texts\n")
    assert console(["check", str(bundle), str(write_gold(tmp_path / "bad.jsonl", bundle, 2, 0.6))]) == 1
    assert "the certificate is broken: certify again on texts of this kind" in capsys.readouterr().out
    assert check_certificate(bundle, tmp_path / "gold.jsonl").same_texts


def test_what_cannot_be_certified_is_one_line_that_says_why(bundle, tmp_path):
    few = write_gold(tmp_path / "few.jsonl", bundle, 0, 1.0, n=30)
    with pytest.raises(
        UserError, match=r"^no switch shows an accuracy of 0.9 with a confidence of 0.95 on 30 texts; that takes at least 36"
    ):
        certify_bundle(bundle, few, tmp_path / "out")
    bad = write_gold(tmp_path / "bad.jsonl", bundle, 0, 0.5)
    with pytest.raises(UserError, match=r"of which [0-9.]+% are answered rightly: ask for less, give more texts, or train"):
        certify_bundle(bundle, bad, tmp_path / "out")
    with pytest.raises(UserError, match=r"^accuracy is 1; it must be above 0 and below 1$"):
        CertifyConfig(accuracy=1.0)
    with pytest.raises(UserError, match=r"has no certificate; make one with: potstill certify "):
        check_certificate(bundle, bad)
    assert not (tmp_path / "out").exists()


def test_another_bundle_s_certificate_is_refused(bundle, tmp_path):
    gold = write_gold(tmp_path / "gold.jsonl", bundle, 0, 0.97)
    certificate = certify_bundle(bundle, gold).certificate
    other = write_bundle(tmp_path / "other", seed=1, certificate=certificate)
    with pytest.raises(FormatError, match=r"certificate: is another model.onnx's; certify this bundle$"):
        check_certificate(other, gold)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accuracy": 1.0}, "certificate.accuracy: is 1.0"),
        ({"n_right": 400}, "certificate: says 400 right of"),
        ({"sure": -1.0}, "sure: is -1.0"),
    ],
)
def test_a_certificate_that_cannot_be_true_is_refused(bundle, tmp_path, change, words):
    from msgspec.structs import replace

    certificate = certify_bundle(bundle, write_gold(tmp_path / "gold.jsonl", bundle, 0, 0.97)).certificate
    with pytest.raises(FormatError, match=words):
        read_manifest(write_bundle(tmp_path / "broken", certificate=replace(certificate, **change)))
