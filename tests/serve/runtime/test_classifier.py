from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_bundle import LABELS, a_manifest, write_bundle

from potstill.contract.bundle import Golden, read_golden, read_manifest, write_golden, write_manifest, write_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.decision import Conformal
from potstill.serve.runtime.classifier import Answer, Classifier, softmax
from potstill.serve.runtime.golden import TOLERANCE_ELSEWHERE
from potstill.serve.runtime.heads import softmax_row
from potstill.serve.runtime.session import this_machine


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("classifier") / "bundle")


@pytest.fixture(scope="module")
def classifier(bundle):
    with Classifier.open(bundle) as classifier:
        yield classifier


TEXTS = st.text(max_size=80) | st.sampled_from(["", "\0", "\ud83d", "rise " * 3000, "x" * 100_000, "שלום عليكم", "🚀" * 500])


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=6), data=st.data())
def test_a_text_has_the_same_answer_alone_and_among_any_others(classifier, texts, data):
    at = data.draw(st.integers(0, len(texts) - 1))
    assert classifier.classify(texts)[at] == classifier.classify([texts[at]])[0]


def test_a_text_has_the_same_answer_in_any_thread(classifier):
    texts = [f"the price will {word} {n}" for n in range(40) for word in ("rise", "fall")]
    expected = classifier.classify(texts)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: classifier.classify([text])[0], texts)) == expected


@settings(max_examples=30, deadline=None)
@given(eighths=st.lists(st.integers(-80_000, 80_000), min_size=2, max_size=8), hundredths=st.integers(5, 2000))
def test_the_softmax_of_one_row_is_that_of_arrays(eighths, hundredths):
    # drawn as integers: a session has set this thread to flush denormals, which Hypothesis refuses to draw floats under
    logits, temperature = [value / 8 for value in eighths], hundredths / 100
    bias = [0.5 * at for at in range(len(logits))]
    for more in (None, bias):
        expected = softmax(np.array([logits]), temperature, None if more is None else np.array(more))[0]
        np.testing.assert_allclose(softmax_row(logits, temperature, more), expected, atol=1e-12)


def test_probabilities_are_a_distribution_in_label_order(classifier):
    answer = classifier.classify(["the price will rise"])[0]
    assert list(answer.probs) == LABELS
    assert sum(answer.probs.values()) == pytest.approx(1, abs=1e-12)
    assert answer.label == max(answer.probs, key=answer.probs.get)


def test_probabilities_are_the_softmax_of_logits_over_temperature(classifier):
    texts = ["rise", "fall!"]
    logits = classifier.logits(texts)
    assert (logits.dtype, logits.shape) == (np.float32, (2, 3))
    np.testing.assert_allclose(classifier.probs(texts), softmax(logits, 1.5), atol=1e-12)
    weights = np.exp(logits.astype(np.float64) / 1.5)
    np.testing.assert_allclose(classifier.probs(texts), weights / weights.sum(axis=1, keepdims=True), atol=1e-12)


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_adding_one_number_to_every_logit_changes_nothing(shift):
    logits = np.array([[2.0, -1.0, 0.5]])
    np.testing.assert_allclose(softmax(logits + shift, 2.0), softmax(logits, 2.0), atol=1e-9)


def test_an_answer_below_its_threshold_is_abstained_from(tmp_path):
    low = write_bundle(tmp_path / "low", thresholds=dict.fromkeys(LABELS, 0.0))
    high = write_bundle(tmp_path / "high", thresholds=dict.fromkeys(LABELS, 1.0))
    assert [Classifier.open(folder).classify(["rise"])[0].abstain for folder in (low, high)] == [False, True]


def test_a_label_that_no_threshold_reaches_is_never_answered_and_one_without_a_threshold_always(tmp_path, classifier):
    label = classifier.classify(["rise"])[0].label
    never = write_bundle(tmp_path / "never", thresholds={label: None})
    other = write_bundle(tmp_path / "other", thresholds={name: None for name in LABELS if name != label})
    assert [Classifier.open(folder).classify(["rise"])[0].abstain for folder in (never, other)] == [True, False]


def test_the_verdict_says_how_the_label_stands_to_its_threshold(tmp_path, classifier):
    label = classifier.classify(["rise"])[0].label
    assert classifier.classify(["rise"])[0].verdict == "no threshold"
    wanted = {"reached": {label: 0.0}, "missed": {label: 1.0}, "never answered": {label: None}}
    for verdict, thresholds in wanted.items():
        with Classifier.open(write_bundle(tmp_path / verdict, thresholds=thresholds)) as holder:
            answer = holder.classify(["rise"])[0]
        assert (answer.verdict, answer.abstain) == (verdict, verdict != "reached")


def test_the_scores_of_the_other_labels_can_be_left_out(classifier):
    whole, short = classifier.classify(["rise"])[0], classifier.classify(["rise"], all_scores=False)[0]
    assert short.probs == {whole.label: whole.probs[whole.label]}
    assert (short.label, short.abstain) == (whole.label, whole.abstain)


@pytest.mark.parametrize("text", ["the price will rise", "naïve 🚀", "", "x" * 100_000, "é" * 70_000])
def test_bytes_are_answered_as_the_text_that_they_spell(classifier, text):
    assert classifier.classify([text.encode()]) == classifier.classify([text])


@pytest.mark.parametrize(
    ("data", "text"), [(b"rise \xff fall", "rise \ufffd fall"), (b"rise \xf0\x9f\x9a", "rise \ufffd"), (b"\0rise", "\0rise")]
)
def test_bytes_that_are_no_utf8_are_read_as_the_sign_for_no_character(classifier, data, text):
    assert classifier.classify([data]) == classifier.classify([text])


def test_targets_may_be_bytes_too(tmp_path):
    with Classifier.open(write_bundle(tmp_path / "pairs", target=True)) as pairs:
        assert pairs.classify([b"rise"], [b"fall"]) == pairs.classify(["rise"], ["fall"])


def test_a_bias_is_added_after_the_temperature_and_multiplies_the_odds(tmp_path, classifier):
    bias = [float(np.log(2)), 0.0, float(np.log(0.5))]
    texts = ["rise", "the price will fall"]
    plain = classifier.probs(texts) * np.array([2, 1, 0.5])
    with Classifier.open(write_bundle(tmp_path / "shifted", bias=bias)) as shifted:
        np.testing.assert_allclose(shifted.probs(texts), plain / plain.sum(axis=1, keepdims=True), atol=1e-12)


def test_label_sets_are_listed_on_request_and_hold_what_the_quantile_allows(tmp_path, classifier):
    texts = ["rise", "fall", "stay. stay?", "the price will rise"]
    assert all(answer.label_set is None for answer in classifier.classify(texts))
    for quantile in (0.0, 0.5, 0.7, 1.0):
        conformal = Conformal(coverage=0.8, quantile=quantile, n=20, source="gold")
        with Classifier.open(write_bundle(tmp_path / f"sets{quantile}", conformal=conformal)) as holder:
            for answer in holder.classify(texts, sets=True):
                assert answer.label_set == [name for name, prob in answer.probs.items() if 1 - prob <= quantile]


def test_a_bundle_without_a_quantile_refuses_to_list_label_sets(classifier):
    with pytest.raises(UserError, match="^label sets are asked for, but this bundle has no conformal quantile; make one with: "):
        classifier.classify(["rise"], sets=True)


def test_no_texts_give_no_answers(classifier):
    assert classifier.classify([]) == []
    assert classifier.logits([]).shape == (0, 3)


def test_a_bundle_with_targets_answers_pairs_and_refuses_bare_texts(tmp_path):
    with Classifier.open(write_bundle(tmp_path / "pairs", target=True)) as classifier:
        assert isinstance(classifier.classify(["the price will rise"], ["fall"])[0], Answer)
        assert classifier.classify(["rise"], ["fall"]) != classifier.classify(["rise"], ["stay"])
        with pytest.raises(UserError, match="^targets are missing; this bundle answers about a target, so give one for each text$"):
            classifier.classify(["rise"])
        with pytest.raises(UserError, match="^there are 2 targets for 1 texts; give one for each$"):
            classifier.classify(["rise"], ["a", "b"])


def test_a_bundle_without_targets_refuses_them(classifier):
    with pytest.raises(UserError, match="^targets are given, but this bundle answers without a target; leave them out$"):
        classifier.classify(["rise"], ["the price"])


def test_one_bare_string_is_refused_rather_than_split_into_letters(classifier):
    for text in ("rise", b"rise"):
        with pytest.raises(TypeError, match="texts is one string; give a list of strings"):
            classifier.classify(text)


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx", "tokenizer.json", "golden.jsonl", "quality.json"])
def test_one_flipped_byte_in_any_file_is_refused_by_its_hash_before_a_parser_reads_it(tmp_path, name):
    path = write_bundle(tmp_path / "bundle") / name
    data = bytearray(path.read_bytes())
    data[0] ^= 1  # the first byte: every parser would fail on it, too
    path.write_bytes(data)
    with pytest.raises(FormatError, match="was changed: its SHA-256 is") as caught:
        Classifier.open(path.parent)
    assert caught.value.path == path


def test_an_incomplete_or_stuffed_bundle_is_refused_with_the_name_of_the_file(tmp_path):
    outside = tmp_path / "outside.json"
    outside.write_bytes(b"{}\n")
    attacks = {
        "missing": ("quality.json", lambda path: path.unlink()),
        "extra": ("model.onnx.data", lambda path: path.write_bytes(b"")),
        "link": ("quality.json", lambda path: (path.unlink(), path.symlink_to(outside))),
        "folder": ("tokenizer.json", lambda path: (path.unlink(), path.mkdir())),
        "short": ("model.onnx", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        "sums": ("SHA256SUMS", lambda path: path.write_text(path.read_text().replace("golden.jsonl", "../golden.jsonl"))),
    }
    for kind, (name, attack) in attacks.items():
        folder = write_bundle(tmp_path / kind)
        attack(folder / name)
        with pytest.raises(FormatError) as caught:
            Classifier.open(folder)
        assert caught.value.path.name == name, kind


def test_an_unknown_format_number_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    write_manifest(folder, a_manifest(format=2))
    write_sums(folder)
    with pytest.raises(FormatError, match=r"bundle\.json: format: is 2; this version reads 1$"):
        Classifier.open(folder)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("model.onnx", b"no graph", "is not an ONNX file, or is truncated"),
        ("tokenizer.json", b"{}", "tokenizers cannot load it"),
        ("golden.jsonl", b"\n", "has no text"),
        ("bundle.json", b"[]", "expected `object`"),
    ],
)
def test_a_file_that_its_parser_refuses_is_named(tmp_path, name, content, problem):
    folder = write_bundle(tmp_path / "bundle")
    (folder / name).write_bytes(content)
    write_sums(folder)
    with pytest.raises(FormatError, match=problem) as caught:
        Classifier.open(folder)
    assert caught.value.path == folder / name


def test_labels_and_classes_of_another_number_are_refused(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    write_manifest(folder, a_manifest(labels=["up", "down"]))
    write_sums(folder)
    with pytest.raises(FormatError, match=r"model\.onnx: outputs: has 3 classes; the manifest names 2 labels$"):
        Classifier.open(folder)


def test_golden_texts_that_drift_refuse_to_serve_and_say_what_differs(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    rows = read_golden(folder)
    moved = [rows[0].probs[0] - 0.002, rows[0].probs[1] + 0.002, rows[0].probs[2]]
    write_golden(folder, [Golden(text=rows[0].text, probs=moved), *rows[1:]])
    write_sums(folder)
    with pytest.raises(
        UserError, match=r"the golden texts drifted: onnxruntime \S+ on .+ moves a probability by 0\.002, at most 0\.001 is"
    ):
        Classifier.open(folder)
    Classifier.open(folder, check=False).close()


def test_a_drift_names_the_version_that_differs_from_the_one_that_made_the_bundle(tmp_path):
    made = msgspec.structs.replace(this_machine(), onnxruntime="1.0.0")
    folder = write_bundle(tmp_path / "bundle", machine=made)
    Classifier.open(folder).close()  # another version alone is no reason to refuse
    rows = read_golden(folder)
    write_golden(folder, [msgspec.structs.replace(rows[0], probs=[0.2, 0.3, 0.5]), *rows[1:]])
    write_sums(folder)
    here = this_machine().onnxruntime
    told = f"at most {TOLERANCE_ELSEWHERE} is allowed; onnxruntime is {here}, the bundle was made with 1.0.0; export the"
    with pytest.raises(UserError, match=re.escape(told)):
        Classifier.open(folder)


def test_the_manifest_is_the_one_on_disk(bundle, classifier):
    assert classifier.manifest == read_manifest(bundle)


def test_a_fresh_interpreter_answers_without_the_training_or_http_stack(bundle):
    code = (
        "import sys; from pathlib import Path; from potstill.serve.runtime.classifier import Classifier\n"
        "Classifier.open(Path(sys.argv[1])).classify(['rise'])\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code, bundle], capture_output=True, text=True, cwd=root, timeout=120, check=True)
    heavy = {
        "torch",
        "transformers",
        "optimum",
        "onnx",
        "sklearn",
        "scipy",
        "pyarrow",
        "click",
        "rich",
        "uvicorn",
        "starlette",
        "asyncio",
        *("concurrent", "csv", "logging", "tomllib"),  # of the standard library: none is needed, and each costs milliseconds
    }
    assert not heavy & set(done.stdout.split())


def test_a_closed_classifier_says_so_and_may_be_closed_again(bundle):
    classifier = Classifier.open(bundle)
    expected = classifier.classify(["rise"])
    classifier.close()
    classifier.close()
    for use in (classifier.classify, classifier.probs, classifier.logits, lambda texts: classifier.traced(texts[0])):
        with pytest.raises(ValueError, match=r"^this classifier is closed; open the bundle again with Classifier\.open$"):
            use(["rise"])
    with Classifier.open(bundle) as again:
        assert again.classify(["rise"]) == expected
