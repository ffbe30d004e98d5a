"""A bundle of several questions is adapted question by question; what has not shifted, and tags, stay."""

import json

import numpy as np
import pytest
from support.tiny_bundle import some_heads, write_bundle

from potstill.commands.main import run as console
from potstill.contract.bundle import read_manifest, verify_files, write_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.decision import Conformal
from potstill.contract.questions.head import ranges
from potstill.contract.scores import prior_shift
from potstill.serve.config import AdaptConfig, CertifyConfig
from potstill.serve.offline.adapt_questions import adapt
from potstill.serve.offline.certify_questions import certify
from potstill.serve.runtime.classifier import Classifier, softmax

pytestmark = pytest.mark.slow
WORDS = ["rise", "fall", "stay", "the", "will", "price"]
SETS = Conformal(coverage=0.8, quantile=0.6, n=20, source="gold")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(prior_shift, "N_RESAMPLES", 10)


def some_texts(seed=0, n=200):
    rng = np.random.default_rng(seed)
    return list(dict.fromkeys(" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(n)))


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """By question, the mean probability of each label over some texts."""
    plain = {name: {"bias": None, "conformal": None} for name in ("move", "asks", "sure")}
    with Classifier.open(write_bundle(tmp_path_factory.mktemp("plain") / "bundle", heads=some_heads(**plain))) as classifier:
        mean = classifier.probs(some_texts()).mean(axis=0)
        found = {}
        for head, own in zip(classifier.manifest.heads, ranges(classifier.manifest.heads), strict=True):
            found[head.name] = dict(zip(head.labels, (mean[own] / mean[own].sum()).tolist(), strict=True))
    return found


@pytest.fixture
def bundle(tmp_path, shares):
    """Its `asks` was made for other shares than the texts have; `sure` for the same."""
    changes = {
        "move": {"bias": None, "conformal": SETS},
        "asks": {"bias": None, "label_shares": {"yes": 0.98, "no": 0.02}, "conformal": SETS, "thresholds": {"yes": 0.75}},
        "sure": {"label_shares": shares["sure"], "conformal": SETS},
    }
    folder = write_bundle(tmp_path / "bundle", heads=some_heads(**changes))
    (folder / "README.md").write_text("# A card\n")
    write_sums(folder)
    return folder


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in some_texts()))
    return path


def test_a_shifted_question_is_answered_for_its_shares_and_the_others_as_before(bundle, texts, tmp_path):
    report = adapt(bundle, texts, tmp_path / "out")
    verify_files(tmp_path / "out")
    before, after = ({head.name: head for head in read_manifest(folder).heads} for folder in (bundle, tmp_path / "out"))
    assert set(report.shifts) == {"asks", "sure"}  # the others record no shares
    assert after["asks"].bias == report.shifts["asks"].bias.tolist() and after["asks"].conformal is None
    assert after["asks"].thresholds == {"yes": 0.75}
    for name in ("move", "topics", "sure"):
        assert after[name] == before[name]
    with Classifier.open(bundle) as old, Classifier.open(tmp_path / "out") as new:
        heads = old.manifest.heads
        own = dict(zip([head.name for head in heads], ranges(heads), strict=True))["asks"]
        said, logits = new.probs(["the price will rise"]), old.logits(["the price will rise"])
    expected = softmax(logits[:, own] + np.array(report.shifts["asks"].bias, dtype=np.float32), 1.0)
    np.testing.assert_allclose(said[:, own], expected, atol=1e-6)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Adapted to other label shares" in card and "`asks`:" in card and "`sure`:" not in card
    assert "sure:" in report.as_text() and "no clear shift, so it is answered as before" in report.as_text()


def test_an_adapted_bundle_is_adapted_again_from_its_original_shares(bundle, texts, tmp_path):
    adapt(bundle, texts, tmp_path / "once")
    adapt(tmp_path / "once", texts, tmp_path / "twice")
    assert read_manifest(tmp_path / "once").heads == read_manifest(tmp_path / "twice").heads


def test_only_the_named_question_is_adapted_and_level_1_always_does(bundle, texts, tmp_path):
    report = adapt(bundle, texts, tmp_path / "out", AdaptConfig(level=1, questions=("sure",)))
    heads = {head.name: head for head in read_manifest(tmp_path / "out").heads}
    assert list(report.shifts) == ["sure"] and heads["sure"].bias is not None and heads["asks"].bias is None


def test_the_certificate_of_a_shifted_question_is_removed_and_no_other(bundle, texts, tmp_path):
    gold = tmp_path / "gold.jsonl"
    with Classifier.open(bundle) as classifier, gold.open("w") as file:
        for i in range(300):
            text = f"{some_texts()[i % 90]} {i}"
            answer = classifier.classify([text])[0].questions
            file.write(json.dumps({"text": text, "gold": {name: answer[name].label for name in ("asks", "sure")}}) + "\n")
    certify(bundle, gold, config=CertifyConfig(accuracy=0.8))
    report = adapt(bundle, texts, tmp_path / "out")
    assert set(read_manifest(bundle).certificates) == {"asks", "sure"}
    assert set(read_manifest(tmp_path / "out").certificates) == {"sure"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.count("## Certificates") == 1 and "### sure" in card and "### asks" not in card
    assert report.uncertified == ["asks"] and "removed the certificate of asks" in report.as_text()


@pytest.mark.parametrize(
    ("questions", "problem"),
    [
        (("mood",), "--question is 'mood'; it answers move, asks, topics, sure"),
        (("topics",), "topics is about tags, which are not adapted; name a question with one answer"),
        (("move",), "records no label shares of move (label_shares); export it again from its checkpoint"),
    ],
)
def test_what_cannot_be_adapted_is_said(bundle, texts, tmp_path, questions, problem):
    with pytest.raises(UserError) as caught:
        adapt(bundle, texts, tmp_path / "out", AdaptConfig(questions=questions))
    assert str(caught.value) == f"{bundle}: {problem}"
    assert not (tmp_path / "out").exists()


def test_few_texts_and_a_bundle_without_shares_are_refused(bundle, texts, tmp_path):
    (tmp_path / "few.jsonl").write_text('{"text": "rise"}\n')
    with pytest.raises(FormatError, match="has 1 usable texts; estimating label shares needs at least 50"):
        adapt(bundle, tmp_path / "few.jsonl", tmp_path / "out")
    plain = write_bundle(tmp_path / "plain", heads=some_heads())
    with pytest.raises(UserError, match="no question has one answer and recorded label shares"):
        adapt(plain, texts, tmp_path / "out")


def test_the_console_prints_the_shares_of_each_question(bundle, texts, tmp_path, capsys):
    assert console(["adapt", str(bundle), str(texts), "--out", str(tmp_path / "out"), "--question", "asks"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("asks:\n  label  share here") and "thresholds are unchanged" in out
