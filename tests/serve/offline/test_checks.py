"""The checks of `potstill check`: each fails on what it is about, and the stated rate of false alarms holds."""

import json

import numpy as np
import pytest
from msgspec.structs import replace
from support.tiny_bundle import some_heads, write_bundle, write_gold

from potstill.commands.main import run as console
from potstill.contract.bundle import read_manifest, write_manifest, write_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.scores.record import Score
from potstill.contract.texts import Text, write_texts
from potstill.serve.config import ChecksConfig
from potstill.serve.offline.certify import certify_bundle
from potstill.serve.offline.checks import check_bundle, moved_share, moved_shares
from potstill.serve.runtime.classifier import Classifier

N_HELD_OUT = 400


def some_texts(n, seed, words=("rise", "fall", "stay", "the", "will", "price", *"abcdefgh")):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, rng.integers(2, 9))) for _ in range(n)]


def write(path, texts):
    path.write_bytes(write_texts([Text(text, f"{i}") for i, text in enumerate(texts)]))
    return path


@pytest.fixture
def bundle(tmp_path):
    """A certified bundle, as sure as trained ones, that knows the shares of its answers to held-out texts."""
    folder = write_bundle(tmp_path / "bundle", precision=None, temperature=0.15)
    with Classifier.open(folder) as classifier:
        shares = classifier.probs(some_texts(N_HELD_OUT, 7)).mean(axis=0)
    manifest = read_manifest(folder)
    score = Score(value=0.8, low=0.7, high=0.9, n=N_HELD_OUT)
    known = dict(zip(manifest.labels, shares.tolist(), strict=True))
    write_manifest(folder, replace(manifest, label_shares=known, scores={"validation": {"accuracy": score}}))
    write_sums(folder)
    certify_bundle(folder, write_gold(tmp_path / "gold.jsonl", folder, 0, 0.97))
    return folder


@pytest.mark.parametrize("law", ["rare", "sharp", "soft"])
@pytest.mark.parametrize(("n_now", "n_then"), [(60, 400), (1000, 150)])
def test_unchanged_shares_are_called_changed_no_more_often_than_stated(law, n_now, n_then):
    """10,000 pairs of samples; the bound is loose, so not one in a hundred may be below 0.05, let alone five."""
    rng, n = np.random.default_rng(0), 10_000
    draw = {
        "rare": lambda size: rng.binomial(size, 0.01, n) / size,
        "sharp": lambda size: rng.binomial(size, 0.3, n) / size,
        "soft": lambda size: rng.beta(0.3, 0.7, (n, size)).mean(axis=1),
    }[law]
    found = np.array([moved_share(now, n_now, then, n_then) for now, then in zip(draw(n_now), draw(n_then), strict=True)])
    assert (found < 0.05).mean() <= 0.01 and found.max() == 1.0


def test_a_change_that_matters_is_seen():
    assert moved_share(0.42, 500, 0.3, 500) < 0.01 < moved_share(0.33, 500, 0.3, 500)
    assert moved_share(0.0, 500, 0.05, 500) < 0.01  # a label that is gone
    assert moved_share(0.3, 100, 0.3, 100) == moved_share(1.0, 9, 1.0, 9) == moved_share(0.0, 9, 0.0, 9) == 1.0


def test_every_check_has_a_line_and_all_hold_on_texts_of_the_same_kind(bundle, tmp_path, capsys):
    gold, texts = write_gold(tmp_path / "new.jsonl", bundle, 1, 0.97), write(tmp_path / "texts.jsonl", some_texts(300, 8))
    assert console(["check", str(bundle), str(texts), "--gold", str(gold), "--max-ms", "1000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": holds; ")[0] for line in lines] == ["certificate", "shares", "latency"]
    assert "0.9 certified; 300 texts, confidence 0.95" in lines[0] and "false alarms at most 0.01" in lines[1]
    assert "0 of 500 answers over 1000 ms, 5% may be; p50 " in lines[2]
    assert console(["check", str(bundle), str(texts), "--gold", str(gold), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["broken"] and [one["verdict"] for one in found["checks"]] == ["holds", "holds"]


def test_each_check_breaks_on_what_it_is_about_and_on_nothing_else(bundle, tmp_path, capsys):
    gold, texts = write_gold(tmp_path / "new.jsonl", bundle, 1, 0.97), write(tmp_path / "texts.jsonl", some_texts(300, 8))
    with Classifier.open(bundle) as classifier:
        probs = classifier.probs(some_texts(900, 8))
    other = [
        some_texts(900, 8)[i] for i in probs[:, probs.mean(axis=0).argmax()].argsort()[:300]
    ]  # where that label is least likely
    shifted, wrong = write(tmp_path / "shifted.jsonl", other), write_gold(tmp_path / "wrong.jsonl", bundle, 2, 0.6)

    def broken(*args):
        code = console(["check", str(bundle), *map(str, args)])
        lines = capsys.readouterr().out.splitlines()
        found = [line.split(": is broken; ")[0] for line in lines if ": is broken; " in line]
        assert code == bool(found)
        return found

    assert broken(texts, "--gold", gold) == []
    assert broken(texts, "--gold", wrong) == ["certificate"]
    assert broken(shifted, "--gold", gold) == ["shares"]
    assert broken(texts, "--max-ms", "0.0001") == ["latency"]
    assert broken(shifted, "--false-alarms", "0.01") == ["shares"]
    assert broken(shifted, "--gold", wrong, "--max-ms", "0.0001") == ["certificate", "shares", "latency"]


def test_alone_texts_with_labels_are_held_against_the_certificate_as_json_too(bundle, tmp_path, capsys):
    wrong = write_gold(tmp_path / "wrong.jsonl", bundle, 2, 0.6)
    assert console(["check", str(bundle), str(wrong), "--json"]) == 1
    (one,) = json.loads(capsys.readouterr().out)["checks"]
    assert one["name"] == "certificate" and one["verdict"] == "is broken"


def test_of_several_questions_each_label_with_a_known_share_is_looked_at(tmp_path):
    shares = {"up": 0.2, "flat": 0.3, "down": 0.5}
    score = {"validation": {"macro_f1": Score(value=0.8, low=0.7, high=0.9, n=200)}}
    heads = some_heads(move={"bias": None, "label_shares": shares, "scores": score})
    folder = write_bundle(tmp_path / "b", heads=heads)
    with Classifier.open(folder) as classifier:
        found = moved_shares(classifier.probs(some_texts(300, 1)), classifier.manifest)
    assert {one.label for one in found} == {"move/up", "move/flat", "move/down"}
    assert [one.p_value for one in found] == sorted(one.p_value for one in found)
    assert {one.label.partition("/")[2]: one.then for one in found} == shares


def test_what_cannot_be_checked_is_an_error_with_the_next_step(bundle, tmp_path):
    texts, gold = write(tmp_path / "texts.jsonl", some_texts(60, 8)), tmp_path / "gold.jsonl"
    plain = write_bundle(tmp_path / "plain")
    with pytest.raises(
        UserError, match=r"records no label shares with the number of their texts; export it again from its checkpoint$"
    ):
        check_bundle(plain, texts, None)
    with pytest.raises(UserError, match=r"has no certificate; make one with: potstill certify "):
        check_bundle(plain, texts, gold)
    adapted = read_manifest(bundle)
    write_manifest(bundle, replace(adapted, bias=[0.0, 0.0, 0.0], certificate=None))
    write_sums(bundle)
    with pytest.raises(
        UserError,
        match="was adapted to other label shares, so it knows no shares of its own answers; check the bundle that it was made from",
    ):
        check_bundle(bundle, texts, None)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(FormatError):
        check_bundle(plain, tmp_path / "empty.jsonl", None)
    for name, value in (("false_alarms", 0.0), ("max_ms", 0.0), ("max_ms", float("nan"))):
        with pytest.raises(UserError, match=f"^{name.replace('_', '-')} is "):
            ChecksConfig(**{name: value})
