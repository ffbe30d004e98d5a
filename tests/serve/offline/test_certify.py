"""A certificate holds on texts to come: as often as it says, and for the bundle and the answers that it was made for."""

import json

import pytest
from msgspec.structs import replace
from support.tiny_bundle import LABELS, write_bundle, write_gold

from potstill.commands.main import run as console
from potstill.contract.bundle import read_manifest, verify_files, write_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.promises.certificate import CertifiedPart
from potstill.serve.config import CertifyConfig
from potstill.serve.offline.certify import certify_bundle, check_certificate


@pytest.fixture
def bundle(tmp_path):
    folder = write_bundle(tmp_path / "bundle", precision=None)
    (folder / "README.md").write_text("# A card\n")
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
    assert (found.n, found.n_reference, found.source, sum(found.label_shares.values())) == (260, 40, "gold", pytest.approx(1))
    assert found.n_right / found.n_answered > 0.9
    assert "## Certificate of accuracy\n" in (tmp_path / "out" / "README.md").read_text()
    assert read_manifest(bundle).certificate is None  # the other one is as it was
    assert found.name == "accuracy" and found.least == found.accuracy == 0.9 and found.agreement is None
    assert found.answered_share == 1.0 if found.sure == 0 else found.answered_share < found.n_answered / found.n
    assert sum(counts[1] for counts in found.by_gold.values()) == found.n_answered
    assert "with 95% confidence on texts of this kind" in report.as_text()
    assert f"and at least {found.answered_share:.1%} of texts of this kind" in report.as_text()


def test_a_certificate_on_a_teacher_s_labels_says_so_wherever_it_is_shown(bundle, tmp_path):
    gold = write_gold(tmp_path / "gold.jsonl", bundle, 0, 0.97)
    report = certify_bundle(bundle, gold, config=CertifyConfig(agreement=0.9))
    found = read_manifest(bundle).certificate
    assert (found.source, found.agreement, found.accuracy, found.name) == ("teacher", 0.9, None, "agreement with the teacher")
    assert report.as_text().startswith("certificate of agreement with the teacher: ")
    assert "which is not accuracy" in report.as_text()
    assert "## Certificate of agreement with the teacher\n" in (bundle / "README.md").read_text()
    assert check_certificate(bundle, gold).as_text().startswith("certificate of agreement with the teacher: 90.0% of the answers")


def test_a_certificate_of_an_earlier_version_opens_and_is_held_to(bundle, tmp_path):
    gold = write_gold(tmp_path / "gold.jsonl", bundle, 0, 0.97)
    certify_bundle(bundle, gold)
    content = json.loads((bundle / "bundle.json").read_text())
    for name in ("agreement", "answered_share", "labels", "slices", "n_bounds", "n_reference", "by_gold"):
        del content["certificate"][name]
    (bundle / "bundle.json").write_text(json.dumps(content))
    write_sums(bundle)
    assert not check_certificate(bundle, gold).broken


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
        UserError, match=r"^no switch shows an accuracy of 0.9 with a confidence of 0.95 on 24 texts; that takes at least 29"
    ):
        certify_bundle(bundle, few, tmp_path / "out")
    bad = write_gold(tmp_path / "bad.jsonl", bundle, 0, 0.5)
    with pytest.raises(UserError, match=r"of which [0-9.]+% are answered rightly: ask for less, give more texts, or train"):
        certify_bundle(bundle, bad, tmp_path / "out")
    with pytest.raises(UserError, match=r"^accuracy is 1; it must be above 0 and below 1$"):
        CertifyConfig(accuracy=1.0)
    with pytest.raises(UserError, match=r"^agreement is 0; it must be above 0 and below 1$"):
        CertifyConfig(agreement=0.0)
    with pytest.raises(UserError, match=r"^confidence is 0.2; it must be at least 0.5 and below 1$"):
        CertifyConfig(confidence=0.2)
    with pytest.raises(UserError, match=r"^both per-label and slices are asked for"):
        CertifyConfig(per_label=True, slices={"a": "b"})
    with pytest.raises(UserError, match=r"^slice 'a': '\(' is not a regular expression"):
        CertifyConfig(slices={"a": "("})
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
        ({"agreement": 0.9}, "certificate: has accuracy and agreement; it must have accuracy or agreement"),
        ({"accuracy": None}, "certificate: has neither; it must have accuracy or agreement"),
        ({"labels": {"up": CertifiedPart(sure=2.0, n=1, n_answered=1, n_right=1)}}, "certificate.labels.up.sure: is 2.0"),
        (
            {"slices": {"x": CertifiedPart(sure=None, n=1, n_answered=2, n_right=1)}},
            "certificate.slices.x: says 1 right of 2 answered",
        ),
    ],
)
def test_a_certificate_that_cannot_be_true_is_refused(bundle, tmp_path, change, words):
    certificate = certify_bundle(bundle, write_gold(tmp_path / "gold.jsonl", bundle, 0, 0.97)).certificate
    with pytest.raises(FormatError, match=words):
        read_manifest(write_bundle(tmp_path / "broken", certificate=replace(certificate, **change)))


def test_each_label_can_have_a_switch_of_its_own_and_all_are_counted(bundle, tmp_path):
    gold = write_gold(tmp_path / "gold.jsonl", bundle, 0, 0.97, n=900)
    assert console(["certify", str(bundle), str(gold), "--per-label", "--out", str(tmp_path / "out")]) == 0
    manifest = read_manifest(tmp_path / "out")
    found = manifest.certificate
    assert manifest.thresholds == {name: part.sure for name, part in found.labels.items()}
    assert found.n_bounds == 3 and found.answered_share is None
    assert found.sure == min(part.sure for part in found.labels.values() if part.sure is not None)
    assert sum(part.n for part in found.labels.values()) == found.n == 840
    assert sum(part.n_right for part in found.labels.values()) == found.n_right
    card = (tmp_path / "out" / "README.md").read_text()
    assert "each label's answers" in card.lower() and "(of all 3 statements together)" in card
    report = check_certificate(tmp_path / "out", gold)
    assert sum(n for n, _ in report.labels.values()) == report.n_answered and not report.broken_labels
    bad = write_gold(tmp_path / "bad.jsonl", bundle, 1, 0.5, n=300)
    assert check_certificate(tmp_path / "out", bad).as_text().endswith("is broken for down: certify again on texts of this kind")
    assert report.n == 900 and 0 < report.n_answered - found.n_answered <= found.n_reference == 60


def test_a_slice_is_certified_where_enough_of_its_texts_are_right_and_not_where_they_are_wrong(bundle, tmp_path, capsys):
    gold = write_gold(tmp_path / "gold.jsonl", bundle, 0, 1.0, n=900)
    rows = [json.loads(line) for line in gold.read_text().splitlines()]
    for row in rows:
        if {"rise", "c"} <= set(row["text"].split()):
            row["gold"] = next(label for label in LABELS if label != row["gold"])  # a small slice that is answered wrongly
    gold.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wrong = r"(?=.*\bRISE\b)(?=.*\bc\b)"
    slices = ["--slice", r"price=\bprice\b", "--slice", f"bad={wrong}"]
    assert console(["certify", str(bundle), str(gold), "--accuracy", "0.85", *slices]) == 0
    shown = capsys.readouterr().out
    found = read_manifest(bundle).certificate
    assert found.n_bounds == 3
    assert found.slices["price"].holds and 100 < found.slices["price"].n < sum("price" in row["text"].split() for row in rows)
    assert not found.slices["bad"].holds and found.slices["bad"].n_right == 0 and found.slices["bad"].sure is None
    assert "slice bad: nothing is shown of it (0 of" in shown and "slice price: certified from" in shown
