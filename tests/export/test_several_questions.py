import json
import shutil

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from support.tiny_backbone import joint_student
from support.tiny_checkpoint import FORM, LOOSE

from potstill.contract.bundle import read_golden, read_manifest
from potstill.contract.checkpoint import read_student
from potstill.contract.errors import UserError
from potstill.contract.questions.head import flat_labels, ranges
from potstill.contract.questions.probabilities import joint_probs
from potstill.export.config import ExportConfig, PackageConfig
from potstill.export.gate.criteria import refusal
from potstill.export.gate.quality import Quality, quality_json
from potstill.export.layouts.package import package
from potstill.export.run import export_bundle
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow

TEXTS = ["the price will surely rise", "why puts", "perhaps a report of the ceo", "candle trend stay"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return joint_student(tmp_path_factory.mktemp("joint"))[0]


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    return export_bundle(checkpoint, tmp_path_factory.mktemp("exported") / "bundle", LOOSE)


@pytest.fixture(scope="module")
def bundle(exported):
    return exported.bundle


def feeds_of(classifier, text):
    return classifier.tokenizer.ids(text, None)


def test_a_bundle_answers_every_question_in_int8(bundle):
    manifest = read_manifest(bundle)
    assert (manifest.format, manifest.variant) == (2, "static_int8")
    assert manifest.labels == flat_labels(manifest.heads)
    with Classifier.open(bundle) as classifier:
        for answer in classifier.classify(TEXTS):
            assert list(answer.questions) == ["move", "asks", "topics", "sure"]


def test_the_graph_has_an_output_for_each_question_beside_all_of_them(bundle):
    manifest = read_manifest(bundle)
    session = ort.InferenceSession(bundle / "model.onnx")
    names = [node.name for node in session.get_outputs()]
    assert names[:5] == ["logits", "logits.move", "logits.asks", "logits.topics", "logits.sure"]
    with Classifier.open(bundle) as classifier:
        whole, *each = session.run(names[:5], feeds_of(classifier, TEXTS[0]))
    np.testing.assert_array_equal(np.concatenate(each, axis=1), whole)
    assert [one.shape[1] for one in each] == [part.stop - part.start for part in ranges(manifest.heads)]


def test_familiarity_stays(exported, bundle):
    assert "distance" in [node.name for node in onnx.load(bundle / "model.onnx").graph.output]
    assert (bundle / "familiarity.json").exists() and exported.familiarity is not None


def test_arrays_of_texts_get_the_probabilities_that_the_runtime_gives(bundle):
    manifest = read_manifest(bundle)
    with Classifier.open(bundle) as classifier:
        wanted = joint_probs(manifest.heads, classifier.logits(TEXTS))
        np.testing.assert_allclose(classifier.probs(TEXTS), wanted, atol=1e-12)


def test_golden_texts_hold_all_questions_side_by_side(bundle):
    manifest, golden = read_manifest(bundle), read_golden(bundle)
    assert {"calls surely", "why puts"} <= {row.text for row in golden}
    for row in golden:
        assert len(row.probs) == len(manifest.labels)
        for head, part in zip(manifest.heads, ranges(manifest.heads), strict=True):
            assert not head.is_softmax or abs(sum(row.probs[part]) - 1) < 1e-9


def test_every_question_is_measured_and_scored(bundle):
    quality = msgspec.json.decode((bundle / "quality.json").read_bytes(), type=Quality)
    for form in quality.forms:
        assert [(one.name, one.metric) for one in form.questions] == [
            ("move", "macro_f1"), ("asks", "macro_f1"), ("topics", "macro_f1"), ("sure", "qwk"),
        ]  # fmt: skip
        assert form.agreement == min(one.agreement for one in form.questions)
        assert form.macro_f1_drop == max(one.drop for one in form.questions)
    assert quality.forms[0].agreement == 1 and quality.forms[0].macro_f1_drop == 0
    for head in read_manifest(bundle).heads:
        assert head.scores["validation"]


def test_float_keeps_the_checkpoints_settings(checkpoint, tmp_path):
    manifest = export_bundle(checkpoint, tmp_path / "bundle", ExportConfig(variant="float", threads=1)).manifest
    for head, own in zip(manifest.heads, read_student(checkpoint).heads, strict=True):
        assert head.temperature == pytest.approx(own.temperature, rel=1e-6)
        assert head.thresholds == pytest.approx(own.thresholds or {}, rel=1e-4) if own.thresholds else head.thresholds is None
        for name, share in own.label_shares.items():
            assert head.label_shares[name] == pytest.approx(share, abs=1e-4)


def test_two_exports_are_equal_byte_for_byte(checkpoint, bundle, tmp_path):
    export_bundle(checkpoint, tmp_path / "bundle", LOOSE)
    for path in bundle.iterdir():
        if path.name not in ("quality.json", "README.md", "SHA256SUMS"):  # these hold times
            assert (tmp_path / "bundle" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_card_shows_every_question_and_how_to_read_its_outputs(bundle, tmp_path):
    card = (bundle / "README.md").read_text()
    for part in (
        "## move",
        "## topics",
        "Does the text mention {tag}?",
        "sure: quadratic weighted kappa",
        "## Confidence of topics",
    ):
        assert part in card
    program = card.split("Without potstill")[1].split("```python\n")[1].split("```")[0].replace("some text", TEXTS[0])
    printed = []
    place = shutil.copytree(bundle, tmp_path / "there")
    code = program.replace('"bundle.json"', f"{str(place / 'bundle.json')!r}").replace(
        '"model.onnx"', f"{str(place / 'model.onnx')!r}"
    )
    exec(code.replace('"tokenizer.json"', f"{str(place / 'tokenizer.json')!r}"), {"print": lambda *words: printed.append(words)})
    with Classifier.open(bundle) as classifier:
        (answer,) = classifier.classify(TEXTS[:1])
    for name, probs in printed:
        assert probs == pytest.approx(answer.questions[name].probs, abs=1e-6)
    assert [name for name, _ in printed] == list(answer.questions)


def test_the_report_has_a_line_for_each_question(exported):
    text = exported.as_text()
    assert "qwk on " in text and "macro_f1 on " in text


def test_a_form_is_refused_for_one_bad_question(bundle):
    quality = msgspec.json.decode((bundle / "quality.json").read_bytes(), type=Quality)
    form = quality.forms[-1]
    strict = ExportConfig(threads=1, min_agreement=0.99)
    bad = [msgspec.structs.replace(one, flips=60, agreement=1 - 60 / one.n) if one.name == "asks" else
           msgspec.structs.replace(one, flips=0, agreement=1.0, drop=0.0, drop_low=0.0) for one in form.questions]  # fmt: skip
    judged = msgspec.structs.replace(form, questions=bad, prob_change_max=0.0)
    assert refusal(judged, strict).startswith(f"asks: 60 of {form.n} texts (")
    assert "change their answer" in refusal(judged, strict)
    worse = [msgspec.structs.replace(one, flips=0, drop=0.1, drop_low=0.05) if one.name == "sure" else
             msgspec.structs.replace(one, flips=0, drop=0.0, drop_low=0.0) for one in bad]  # fmt: skip
    assert refusal(msgspec.structs.replace(judged, questions=worse), strict).startswith("sure: quadratic kappa ")


@pytest.mark.parametrize("layout", ["huggingface", "triton"])
def test_layouts_for_one_choice_refuse_several_questions(bundle, tmp_path, layout):
    with pytest.raises(UserError) as caught:
        package(bundle, tmp_path / "out", PackageConfig(layout))
    assert str(caught.value) == (
        f"{bundle}: answers move, asks, topics, sure, but the layout {layout} is for one choice between labels; "
        "allowed: kserve, kubernetes, docker, web, space"
    )


def test_a_container_holds_the_bundle_as_it_is(bundle, tmp_path):
    assert package(bundle, tmp_path / "out", PackageConfig("docker")).n_files > 5


def test_the_quality_of_one_choice_is_written_as_before():
    found = Quality(
        variant="float", n_validation=1, n_calibration=1, torch_change_max=0.0, max_drop=0.0, min_agreement=1.0, max_change=0.0,
        flips_explained=0, temperature=1.0, onnxruntime="1", cpu="x", cpu_flags=[], forms=[FORM],
    )  # fmt: skip
    assert "questions" not in json.loads(quality_json(found))["forms"][0]
