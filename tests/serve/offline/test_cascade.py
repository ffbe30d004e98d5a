from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_bundle import LABELS, a_familiarity, write_bundle

from potstill.commands.main import run as console
from potstill.contract.bundle import read_golden, read_manifest, verify_files, write_golden, write_manifest, write_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.decision import Conformal
from potstill.serve.config import CascadeConfig
from potstill.serve.offline.cascade import cascade_bundle
from potstill.serve.runtime.classifier import Classifier

WORDS = ["the", "price", "will", "rise", "fall", "stay", "!", "?"]


def some_texts(n=40):
    rng = np.random.default_rng(7)
    return list(dict.fromkeys(" ".join(rng.choice(WORDS, 5)) for _ in range(n)))


def write_texts(path, gold=None):
    rows = [
        {"text": text, **({"gold": label} if label else {})} for text, label in zip(some_texts(), gold or [None] * 99, strict=False)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A fast bundle, a slow one, texts with the slow one's labels as gold, and their cascade."""
    folder = tmp_path_factory.mktemp("cascade")
    fast, slow = write_bundle(folder / "fast", seed=3, temperature=0.7, thresholds={"up": 1.0}), write_bundle(folder / "slow")
    texts = write_texts(folder / "texts.jsonl")
    cascade_bundle(fast, slow, texts, folder / "both", CascadeConfig(max_loss=0.25, rule="point"))
    return fast, slow, texts, folder / "both"


def test_a_cascade_tells_unfamiliar_texts_as_its_fast_bundle_does(parts, tmp_path):
    texts, loose = parts[2], CascadeConfig(max_loss=0.25)
    known = a_familiarity(threshold=0.1)
    fast = write_bundle(tmp_path / "fast", seed=3, temperature=0.7, thresholds={"up": 1.0}, familiarity=known)
    slow = write_bundle(tmp_path / "slow", familiarity=a_familiarity())
    cascade_bundle(fast, parts[1], texts, tmp_path / "told", loose)
    with Classifier.open(fast) as first, Classifier.open(tmp_path / "told") as both:
        assert both.familiarity == known
        asked = [*some_texts(), "zzz", ""]
        assert [answer.unfamiliarity for answer in both.classify(asked)] == [one.unfamiliarity for one in first.classify(asked)]
    cascade_bundle(parts[0], slow, texts, tmp_path / "untold", loose)
    with Classifier.open(tmp_path / "untold") as both:
        assert both.classify(["zzz"])[0].unfamiliar is None


@pytest.fixture(scope="module")
def opened(parts):
    with Classifier.open(parts[0]) as fast, Classifier.open(parts[1]) as slow, Classifier.open(parts[3]) as both:
        yield fast, slow, both


TEXTS = st.text(max_size=40) | st.sampled_from(["", "\0", "\ud83d", "rise " * 3000, "שלום", *some_texts()])


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=6), data=st.data())
def test_each_answer_is_that_of_the_fast_bundle_where_it_is_sure_and_else_of_the_slow_one_in_any_batch(opened, texts, data):
    fast, slow, both = opened
    at = data.draw(st.integers(0, len(texts) - 1))
    answer = both.classify(texts)[at]
    quick = fast.classify([texts[at]])[0]
    sure = max(quick.probs.values()) >= both.manifest.cascade.sure
    assert answer == (quick if sure else slow.classify([texts[at]])[0])


def test_both_ways_are_taken_on_these_texts_as_often_as_the_manifest_says(opened):
    fast, _, both = opened
    cascade = both.manifest.cascade
    sure = fast.probs(some_texts()).max(axis=1) >= cascade.sure
    assert 0 < sure.mean() == cascade.share < 1
    assert (cascade.measure, cascade.max_loss, cascade.n) == ("agreement", 0.25, len(some_texts()))
    assert 0 < cascade.loss <= 0.25


def test_a_trace_counts_the_tokens_of_both_graphs_and_has_the_logits_of_the_one_that_answered(opened):
    fast, slow, both = opened
    for text in some_texts():
        (quick, tokens), (exact, more) = ((one.traced(text)[0], one.traced(text)[1].n_tokens) for one in (fast, slow))
        answer, trace = both.traced(text)
        sure = max(quick.probs.values()) >= both.manifest.cascade.sure
        assert answer == both.classify([text])[0] == (quick if sure else exact)
        assert trace.n_tokens == tokens + (0 if sure else more) and trace.tokenize_s > 0
        assert trace.logits == (fast if sure else slow).logits([text])[0].tolist()


def test_a_cascade_answers_alike_in_any_thread(opened):
    both = opened[2]
    expected = both.classify(some_texts())
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: both.classify([text])[0], some_texts())) == expected


def test_probabilities_are_those_of_the_answers(opened):
    both = opened[2]
    answers = both.classify(some_texts())
    np.testing.assert_array_equal(both.probs(some_texts()), [list(answer.probs.values()) for answer in answers])


def test_the_bundle_is_whole_and_its_golden_texts_hold_both_graphs_answers(parts, opened):
    folder = parts[3]
    verify_files(folder)
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    fast, slow, _ = opened
    rows = read_golden(folder)
    assert {row.text for row in rows} == {row.text for part in parts[:2] for row in read_golden(part)}
    for row in rows:
        assert row.probs == slow.probs([row.text])[0].tolist()
        assert row.fast_probs == fast.probs([row.text])[0].tolist()


@pytest.mark.parametrize("which", ["probs", "fast_probs"])
def test_a_drift_of_either_graph_refuses_to_serve(parts, tmp_path, which):
    subprocess.run(["cp", "-r", parts[3], tmp_path / "copy"], check=True)
    rows = [json.loads(line) for line in (tmp_path / "copy" / "golden.jsonl").read_text().splitlines()]
    rows[1][which] = [0.2, 0.3, 0.5]
    (tmp_path / "copy" / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_sums(tmp_path / "copy")
    with pytest.raises(UserError, match="the golden texts drifted"):
        Classifier.open(tmp_path / "copy")


def test_golden_texts_without_the_fast_graphs_answers_are_refused(parts, tmp_path):
    subprocess.run(["cp", "-r", parts[3], tmp_path / "copy"], check=True)
    write_golden(tmp_path / "copy", read_golden(parts[1]))
    write_sums(tmp_path / "copy")
    with pytest.raises(FormatError, match=r"golden\.jsonl: line 1: has 0 probabilities; the model gives 3$"):
        Classifier.open(tmp_path / "copy")


@pytest.mark.parametrize("name", ["fast.onnx", "fast_tokenizer.json"])
def test_a_second_graph_without_a_cascade_and_a_cascade_without_one_are_refused(parts, tmp_path, name):
    subprocess.run(["cp", "-r", parts[3], tmp_path / "lacks"], check=True)
    (tmp_path / "lacks" / name).unlink()
    write_sums(tmp_path / "lacks")
    with pytest.raises(
        FormatError, match="bundle.json has a cascade, but the file is missing; copy the whole bundle again"
    ) as caught:
        Classifier.open(tmp_path / "lacks")
    assert caught.value.path.name == name
    stuffed = write_bundle(tmp_path / "stuffed")
    (stuffed / name).write_bytes((parts[3] / name).read_bytes())
    write_sums(stuffed)
    with pytest.raises(FormatError, match="bundle.json has no cascade, but the file is there; copy the whole bundle again"):
        Classifier.open(stuffed)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sure": 1.5}, "cascade.sure: is 1.5; it must be from 0 to 1"),
        ({"temperature": 0.0}, "cascade.temperature: is 0.0; it must be above 0"),
        ({"thresholds": {"flat out": 0.5}}, "cascade.thresholds.flat out: is not a label; allowed: up, flat, down"),
        ({"confidence": 1.0}, "cascade.confidence: is 1.0; it must be above 0 and below 1"),
        ({"bias": [1.0]}, "cascade.bias: has 1 numbers; there are 3 labels"),
    ],
)
def test_cascade_settings_out_of_range_are_refused(parts, tmp_path, changes, told):
    subprocess.run(["cp", "-r", parts[3], tmp_path / "copy"], check=True)
    path = tmp_path / "copy" / "bundle.json"
    content = json.loads(path.read_text())
    content["cascade"] |= changes
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError) as caught:
        read_manifest(tmp_path / "copy")
    assert str(caught.value) == f"{path}: {told}"


def test_the_command_keeps_macro_f1_where_there_is_gold_and_says_what_it_costs(parts, tmp_path, capsys):
    fast, slow, *_ = parts
    with Classifier.open(slow) as classifier:
        gold = [answer.label for answer in classifier.classify(some_texts())]
    texts = write_texts(tmp_path / "gold.jsonl", gold)
    assert (
        console(["cascade", str(fast), str(slow), str(texts), str(tmp_path / "out"), "--max-loss", "0.2", "--rule", "point"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    cascade = read_manifest(tmp_path / "out").cascade
    assert cascade.measure == "macro_f1" and cascade.loss <= 0.2
    assert lines[0].startswith(f"macro-F1 on gold labels, {len(gold)} texts: fast 0.") and "slow 1.0000" in lines[0]
    assert (
        lines[1] == f"the fast graph answers {cascade.share:.1%} of them, where its top probability is at least {cascade.sure:.3f}"
    )
    assert read_manifest(tmp_path / "out").scores["cascade"]["macro_f1"].value == pytest.approx(1 - cascade.loss)


def many_texts(path, slow, n=400, gold=False):
    rng, rows = np.random.default_rng(3), {}
    while len(rows) < n:
        rows.setdefault(" ".join(rng.choice([*WORDS, *"abcdef"], rng.integers(3, 8))))
    with Classifier.open(slow) as classifier:
        labels = [answer.label for answer in classifier.classify(list(rows))]
    path.write_text(
        "".join(
            json.dumps({"text": text} | ({"gold": label} if gold else {})) + "\n" for text, label in zip(rows, labels, strict=True)
        )
    )
    return path


@pytest.mark.parametrize("gold", [True, False])
def test_by_default_the_loss_is_a_bound_and_says_of_what_with_which_confidence(parts, tmp_path, capsys, gold):
    fast, slow, *_ = parts
    texts = many_texts(tmp_path / "many.jsonl", slow, gold=gold)
    assert console(["cascade", str(fast), str(slow), str(texts), str(tmp_path / "out"), "--max-loss", "0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cascade = read_manifest(tmp_path / "out").cascade
    assert (cascade.measure, cascade.confidence, cascade.loss_held_out) == ("accuracy" if gold else "agreement", 0.95, None)
    assert 0 < cascade.loss < 0.1 and 0 < cascade.share < 1
    what = "accuracy" if gold else "agreement with the slow graph"
    assert lines[2] == f"lost {what}: at most 0.1 on texts of this kind, with 95% confidence; {cascade.loss:+.4f} on these"
    assert "of texts of this kind, with 95% confidence)" in lines[1]
    with Classifier.open(fast) as quick, Classifier.open(tmp_path / "out") as both:
        rows = [json.loads(line)["text"] for line in texts.read_text().splitlines()]
        assert np.mean(quick.probs(rows).max(axis=1) >= both.manifest.cascade.sure) == cascade.share


def test_a_bound_that_the_texts_are_too_few_for_says_how_many_it_takes(parts, tmp_path):
    fast, slow, texts, _ = parts
    assert refusal(fast, slow, texts, tmp_path / "out", CascadeConfig(max_loss=0.01)) == (
        f"no threshold shows a loss within 0.01 with a confidence of 0.95 on {len(some_texts())} texts; that takes at least 299 texts "
        "without one loss: give more texts, or allow more with --max-loss"
    )


def test_a_cascade_of_an_earlier_version_opens(parts, tmp_path):
    subprocess.run(["cp", "-r", parts[3], tmp_path / "old"], check=True)
    content = json.loads((tmp_path / "old" / "bundle.json").read_text())
    del content["cascade"]["confidence"]
    (tmp_path / "old" / "bundle.json").write_text(json.dumps(content))
    write_sums(tmp_path / "old")
    with Classifier.open(tmp_path / "old") as old, Classifier.open(parts[3]) as new:
        assert old.manifest.cascade == new.manifest.cascade and old.classify(some_texts()) == new.classify(some_texts())


def test_what_was_measured_on_other_answers_is_not_carried_over(tmp_path, parts):
    conformal = Conformal(coverage=0.8, quantile=0.5, n=20, source="gold")
    slow = write_bundle(tmp_path / "slow", conformal=conformal, label_shares=dict.fromkeys(LABELS, 1 / 3))
    (slow / "model.sig").write_text("signed")
    cascade_bundle(parts[0], slow, parts[2], tmp_path / "out", CascadeConfig(max_loss=0.25, rule="point"))
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.conformal, manifest.label_shares, manifest.precision) == (None, None, None)
    assert not (tmp_path / "out" / "model.sig").exists()


def refusal(*args):
    with pytest.raises(UserError) as caught:
        cascade_bundle(*args)
    return str(caught.value)


def test_bundles_that_do_not_fit_and_losses_that_cannot_be_kept_are_refused_and_nothing_is_written(parts, tmp_path):
    fast, slow, texts, both = parts
    config, out = CascadeConfig(max_loss=0.25, rule="point"), tmp_path / "out"
    other = write_bundle(tmp_path / "other")
    write_manifest(other, read_manifest(other).__class__(**{**_fields(read_manifest(other)), "labels": ["a", "b", "c"]}))
    write_sums(other)
    assert (
        refusal(other, slow, texts, out, config)
        == f"{other}: has the labels a, b, c; {slow} has up, flat, down; both must be the same"
    )
    pairs = write_bundle(tmp_path / "pairs", target=True)
    assert refusal(pairs, slow, texts, out, config) == f"{pairs}: answers with a target, {slow} does not; both must be the same"
    assert refusal(both, slow, texts, out, config) == f"{both}: is already a cascade; join the two bundles it was made from again"
    sure_and_wrong = write_bundle(tmp_path / "wrong", bias=[0.0, 0.0, 50.0])
    assert refusal(sure_and_wrong, slow, texts, out, CascadeConfig(max_loss=0, rule="point")).startswith(
        "no threshold keeps the loss within 0 on "
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    assert refusal(fast, slow, texts, tmp_path / "full", config).endswith(
        "is a folder with other files; name a bundle or a new folder"
    )
    assert not out.exists()
    with pytest.raises(UserError, match="^max-loss is -1; it must be from 0 to 1$"):
        CascadeConfig(max_loss=-1)
    with pytest.raises(UserError, match="^confidence is 1; it must be at least 0.5 and below 1$"):
        CascadeConfig(confidence=1.0)


def _fields(manifest):
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}
