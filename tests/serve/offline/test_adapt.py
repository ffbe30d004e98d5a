import json

import numpy as np
import pytest
from support.tiny_bundle import LABELS, write_bundle, write_gold

from potstill.commands.main import run as console
from potstill.contract.bundle import read_golden, read_manifest, verify_files, write_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.decision import Conformal
from potstill.contract.scores import prior_shift
from potstill.contract.scores.prior_shift import estimate
from potstill.serve.config import AdaptConfig
from potstill.serve.offline.adapt import adapt_bundle
from potstill.serve.offline.certify import certify_bundle
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """The intervals of the shares are tested with prior_shift; here they only take time."""
    monkeypatch.setattr(prior_shift, "N_RESAMPLES", 10)


WORDS = ["rise", "fall", "stay", "the", "will", "price"]
CONFORMAL = Conformal(coverage=0.8, quantile=0.6, n=20, source="gold")


def some_texts(seed, n=120, words=WORDS):
    rng = np.random.default_rng(seed)
    return list(dict.fromkeys(" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(n)))


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """The mean probabilities of a bundle over some texts, which is what it was made for."""
    with Classifier.open(write_bundle(tmp_path_factory.mktemp("plain") / "bundle")) as classifier:
        mean = classifier.probs(some_texts(0)).mean(axis=0)
    return dict(zip(LABELS, (mean / mean.sum()).tolist(), strict=True))


@pytest.fixture
def bundle(tmp_path, shares):
    return write_bundle(tmp_path / "bundle", label_shares=shares, thresholds={"up": 0.5}, conformal=CONFORMAL)


OTHER = {"up": 0.05, "flat": 0.05, "down": 0.9}


def test_the_new_bundle_answers_with_the_adjusted_probabilities_and_proves_itself(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", label_shares=OTHER, thresholds={"up": 0.5}, conformal=CONFORMAL)
    texts, out = some_texts(1), tmp_path / "adapted"
    report = adapt_bundle(bundle, write(tmp_path / "texts.jsonl", texts), out, AdaptConfig())
    verify_files(out)
    manifest = read_manifest(out)
    assert manifest == report.manifest
    assert (manifest.label_shares, manifest.thresholds, manifest.conformal) == (OTHER, {"up": 0.5}, None)
    with Classifier.open(bundle) as before, Classifier.open(out) as after:
        probs = before.probs(texts)
        shift = estimate(probs, np.array(list(OTHER.values())))
        weights = probs * shift.shares / shift.source
        np.testing.assert_allclose(after.probs(texts), weights / weights.sum(axis=1, keepdims=True), atol=1e-9)
    assert report.shift.p_value < 0.05
    assert [row.text for row in read_golden(out)] == [row.text for row in read_golden(bundle)]
    text = report.as_text()
    assert text.splitlines()[0].split() == ["label", "share", "here", "original", "share"]
    assert text.endswith("label sets are removed: their coverage does not hold after a shift")


def test_texts_like_those_it_was_made_for_change_nothing_and_it_says_so(bundle, tmp_path):
    report = adapt_bundle(bundle, write(tmp_path / "texts.jsonl", some_texts(0)), tmp_path / "adapted", AdaptConfig())
    assert (report.manifest.bias, report.manifest.conformal) == (None, CONFORMAL)
    assert report.as_text().endswith("answers as before")
    for name in ("bundle.json", "golden.jsonl", "SHA256SUMS"):
        assert (tmp_path / "adapted" / name).read_bytes() == (bundle / name).read_bytes()


def test_a_level_of_one_adapts_in_any_case(bundle, tmp_path):
    path = write(tmp_path / "texts.jsonl", some_texts(0))
    assert adapt_bundle(bundle, path, tmp_path / "adapted", AdaptConfig(level=1.0)).manifest.bias is not None


def test_adapting_an_adapted_bundle_starts_from_where_it_was_made_even_in_place(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", label_shares=OTHER)
    first, second = (write(tmp_path / f"{i}.jsonl", some_texts(i)) for i in (1, 2))
    direct = adapt_bundle(bundle, second, tmp_path / "direct", AdaptConfig())
    adapt_bundle(bundle, first, bundle, AdaptConfig())
    assert adapt_bundle(bundle, second, bundle, AdaptConfig()).manifest == direct.manifest


def test_the_model_card_says_which_shift_it_answers_for_and_only_the_last_one(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", label_shares=OTHER)
    (bundle / "README.md").write_text("# tiny\n\n")
    write_sums(bundle)
    adapt_bundle(bundle, write(tmp_path / "1.jsonl", some_texts(1)), bundle, AdaptConfig())
    report = adapt_bundle(bundle, write(tmp_path / "2.jsonl", some_texts(2)), bundle, AdaptConfig())
    card = (bundle / "README.md").read_text()
    assert card.startswith("# tiny\n\n## Adapted to other label shares\n") and card.count("##") == 1
    assert f"- `down`: {report.shift.shares[2]:.3f} of {report.shift.n} texts, 0.900 originally" in card


@pytest.mark.parametrize("level", [0.0, 1.5, float("nan")])
def test_a_level_out_of_its_range_is_refused(level):
    with pytest.raises(UserError, match=f"^level is {level:g}; it must be above 0 and at most 1$"):
        AdaptConfig(level=level)


def test_what_cannot_be_adapted_is_refused_and_nothing_is_written(bundle, tmp_path, capsys):
    out, few, many = (
        tmp_path / "out",
        write(tmp_path / "few.jsonl", some_texts(0)[:49]),
        write(tmp_path / "many.jsonl", some_texts(0)),
    )
    with pytest.raises(FormatError) as caught:
        adapt_bundle(bundle, few, out, AdaptConfig())
    assert str(caught.value) == f"{few}: has 49 usable texts; estimating label shares needs at least 50"
    plain = write_bundle(tmp_path / "plain")
    assert console(["adapt", str(plain), str(many), "--out", str(out)]) == 1
    assert capsys.readouterr().err == (
        f"potstill: {plain}: records no label shares (label_shares); export it again from its checkpoint\n"
    )
    assert not out.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(UserError, match="is a folder with other files; name a bundle or a new folder"):
        adapt_bundle(bundle, many, tmp_path / "mine", AdaptConfig())
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"


def test_the_console_prints_the_shares(bundle, tmp_path, capsys):
    path = write(tmp_path / "texts.jsonl", some_texts(0))
    assert console(["adapt", str(bundle), str(path), "--out", str(tmp_path / "out"), "--level", "1"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:4]] == LABELS


def test_a_shift_takes_the_certificate_away_and_says_what_its_answers_would_be_worth(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", label_shares=OTHER)
    (bundle / "README.md").write_text("# tiny\n\n")
    write_sums(bundle)
    gold = write_gold(tmp_path / "gold.jsonl", bundle, 0, 0.97)
    certificate = certify_bundle(bundle, gold).certificate
    texts = write(tmp_path / "texts.jsonl", some_texts(1))
    report = adapt_bundle(bundle, texts, tmp_path / "adapted", AdaptConfig())
    assert report.manifest.certificate is None and report.certificate == certificate
    assert (tmp_path / "adapted" / "README.md").read_text().count("##") == 1  # on the label shares
    weights = {name: share / certificate.label_shares[name] for name, share in zip(LABELS, report.shift.shares, strict=True)}
    answered, right = (sum(weights[name] * counts[i] for name, counts in certificate.by_gold.items()) for i in (1, 2))
    assert certificate.estimate(certificate.label_shares) == pytest.approx(certificate.n_right / certificate.n_answered)
    assert f"with these shares {right / answered:.1%} of the answers of the bundle as it was would be right" in report.as_text()
    assert "the certificate of accuracy is removed: it held for other label shares, and for other probabilities" in report.as_text()


def test_without_a_shift_the_certificate_stays(bundle, tmp_path):
    certificate = certify_bundle(bundle, write_gold(tmp_path / "gold.jsonl", bundle, 0, 0.97)).certificate
    report = adapt_bundle(bundle, write(tmp_path / "texts.jsonl", some_texts(0)), tmp_path / "adapted", AdaptConfig())
    assert read_manifest(tmp_path / "adapted").certificate == certificate
    assert report.as_text().splitlines()[-1].startswith("the certificate stays, for texts of its kind")
