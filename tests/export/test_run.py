from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from support.tiny_checkpoint import LABELS, LOOSE, N_VALIDATION, WORDS, write_checkpoint
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import potstill
from potstill.contract.bundle import read_golden, read_manifest
from potstill.contract.checkpoint import read_student, write_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.decision import Conformal, Precision
from potstill.contract.task import task_from_json, task_to_json
from potstill.contract.texts import Text, write_texts
from potstill.export.bundle.assemble import EDGE_CASES
from potstill.export.config import ExportConfig
from potstill.export.gate.criteria import fastest
from potstill.export.gate.quality import Quality
from potstill.export.run import export_bundle
from potstill.serve.offline.verify import verify
from potstill.serve.runtime.classifier import Classifier

pytestmark = pytest.mark.slow

EVERY = ExportConfig(max_drop=0.2, min_agreement=0.8, max_change=0.5, threads=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    return export_bundle(checkpoint, tmp_path_factory.mktemp("exported") / "bundle", LOOSE)


@pytest.fixture(scope="module")
def bundle(exported):
    return exported.bundle


def quality(bundle: Path) -> Quality:
    return msgspec.json.decode((bundle / "quality.json").read_bytes(), type=Quality)


def test_the_static_form_is_written_when_it_passes_and_answers_like_torch(checkpoint, bundle):
    manifest = read_manifest(bundle)
    assert (manifest.variant, manifest.labels, manifest.max_tokens, manifest.thresholds) == ("static_int8", LABELS, 32, {"up": 0.5})
    texts = ["the price will rise", "puts calls never", "stay very much today soon"]
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    with Classifier.open(bundle) as classifier, torch.inference_mode():
        expected = np.concatenate([model(torch.tensor([tokenizer.encode(text).ids])).logits.numpy() for text in texts])
        found = classifier.logits(texts)
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_the_chosen_form_is_the_same_alone_and_in_any_batch_as_measured(bundle):
    assert read_manifest(bundle).batch_invariant
    assert quality(bundle).forms[1].batch_change_max == quality(bundle).forms[1].padding_change_max == 0


def test_the_gate_reports_every_form_with_its_numbers(exported, bundle):
    found = quality(bundle)
    assert [(form.variant, form.problem) for form in found.forms] == [("float", ""), ("static_int8", "")]
    assert found.forms[0].macro_f1 == found.forms[0].agreement == 1  # the soft labels are the checkpoint's own answers
    assert found.torch_change_max < 1e-5
    assert found.n_validation == read_manifest(bundle).scores["validation"]["macro_f1"].n == N_VALIDATION
    assert found.forms[0].n == found.forms[1].n > N_VALIDATION  # further texts say what changes, and nothing about quality
    more = found.forms[0].n - N_VALIDATION
    assert f"on {N_VALIDATION} validation texts and {more} others that the quantizer has not seen" in exported.as_text()
    assert found.forms[1].bytes < found.forms[0].bytes
    assert "static_int8" in exported.as_text() and "answers are the same in any batch" in exported.as_text()


def test_a_task_without_worked_examples_gives_golden_texts_too(checkpoint, tmp_path):
    bare = shutil.copytree(checkpoint, tmp_path / "bare")
    task = task_from_json(bare / "task.json", (bare / "task.json").read_bytes())
    (bare / "task.json").write_bytes(task_to_json(msgspec.structs.replace(task, examples=[])))
    found = export_bundle(bare, tmp_path / "bundle", dataclasses.replace(LOOSE, variant="float"))
    assert [row.text for row in read_golden(found.bundle)] == list(EDGE_CASES)


def test_a_second_export_elsewhere_gives_the_same_bytes(checkpoint, bundle, tmp_path):
    again = tmp_path / "again"
    command = [sys.executable, "-m", "potstill.commands.main", "export", str(checkpoint), str(again), "--threads", "1"]
    command += ["--max-drop", str(LOOSE.max_drop), "--min-agreement", str(LOOSE.min_agreement)]
    command += ["--max-change", str(LOOSE.max_change), "--variant", LOOSE.variant]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "static_int8" in done.stdout
    names = sorted(path.name for path in bundle.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert (bundle / name).read_bytes() == (again / name).read_bytes(), name


def test_every_form_competes_and_the_fastest_that_passed_is_taken(checkpoint, tmp_path):
    report = export_bundle(checkpoint, tmp_path / "bundle", EVERY)
    found = quality(tmp_path / "bundle")
    assert [form.variant for form in found.forms] == ["float", "static_int8", "dynamic_int8", "float_fused"]
    assert all(form.ms_p50 > 0 and form.operators for form in found.forms)
    assert found.forms[1].operators["MatMulIntegerToFloat"] == 12 and found.forms[3].operators["MultiHeadAttention"] == 2
    dynamic = found.forms[2]
    assert dynamic.problem.startswith("an answer depends on what shares its batch (") and dynamic.batch_change_max > 1e-4
    assert report.manifest.variant == found.variant == fastest(found.forms).variant != "dynamic_int8"


def test_forms_that_fail_are_named_with_the_reason_and_float_is_taken(checkpoint, tmp_path):
    strict = ExportConfig(max_drop=1, min_agreement=0, max_change=0, threads=1)
    report = export_bundle(checkpoint, tmp_path / "bundle", strict)
    found = quality(tmp_path / "bundle")
    refused = [form for form in found.forms if "int8" in form.variant]
    assert all(form.problem.startswith("a probability moves by ") for form in refused) and len(refused) == 2
    assert report.manifest.variant.startswith("float")
    assert report.manifest.temperature == pytest.approx(1.25, rel=0.01)
    assert report.as_text().count("; at most 0 is allowed") >= 2
    assert "; at most 0 is allowed" in (tmp_path / "bundle" / "README.md").read_text()


def test_a_form_that_cannot_be_made_says_why(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setattr("potstill.contract.system.machine.cpu", lambda: ("", ["avx2"]))
    with pytest.raises(
        UserError, match="static_int8_full_range cannot be made: this machine's processor adds int8 products in 16 bits"
    ):
        export_bundle(checkpoint, tmp_path / "bundle", ExportConfig(variant="static_int8_full_range", threads=1))
    assert not (tmp_path / "bundle").exists()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # which DeBERTa's file calls
def test_where_onnxruntime_cannot_make_int8_of_a_network_another_form_is_taken_and_that_is_said(tmp_path, checkpoint):
    from transformers import DebertaConfig, DebertaForSequenceClassification, __version__

    if int(__version__.split(".")[0]) >= 5:
        pytest.skip("transformers 5 traces DeBERTa to operators that onnxruntime makes int8 of")
    folder = tmp_path / "deberta"
    shutil.copytree(checkpoint, folder)
    own = json.loads((folder / "config.json").read_text())
    kept = {
        name: own[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    }
    relative = {"relative_attention": True, "max_relative_positions": -1, "pos_att_type": ["c2p", "p2c"]}
    torch.manual_seed(0)
    config = DebertaConfig(
        **kept, **relative, position_biased_input=False, type_vocab_size=0, id2label=own["id2label"], label2id=own["label2id"]
    )
    DebertaForSequenceClassification(config).save_pretrained(folder)
    loose = dataclasses.replace(LOOSE, variant="auto", max_drop=1, min_agreement=0, max_change=1)
    report = export_bundle(folder, tmp_path / "bundle", loose)
    assert "onnxruntime cannot make it of this network (" in report.quality.not_tried["static_int8"]
    assert verify(tmp_path / "bundle").problems == []
    with pytest.raises(UserError, match=r"static_int8 cannot be made: onnxruntime cannot make it of this network \("):
        export_bundle(folder, tmp_path / "asked", dataclasses.replace(loose, variant="static_int8"))


def test_a_pool_gives_calibration_and_more_texts_to_see_labels_change_on(checkpoint, tmp_path):
    rng = np.random.default_rng(5)
    pool = [Text(" ".join(rng.choice(WORDS, rng.integers(2, 20)))) for _ in range(300)]
    (tmp_path / "pool.jsonl").write_bytes(write_texts(pool))
    config = dataclasses.replace(LOOSE, pool=str(tmp_path / "pool.jsonl"))
    found = export_bundle(checkpoint, tmp_path / "bundle", config).quality
    assert found.n_validation == N_VALIDATION and 140 <= found.n_calibration <= 150
    assert found.forms[0].n > 180


def test_measured_thresholds_and_sets_are_carried_to_int8_and_said_on_the_card_and_float_keeps_its_own(checkpoint, tmp_path):
    calibrated = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, calibrated)
    measured = {
        "thresholds": {"up": 0.4, "flat": None},
        "precision": Precision(wanted=0.8, n=70, source="gold"),
        "conformal": Conformal(coverage=0.9, quantile=0.8, n=70, source="teacher"),
    }
    write_student(calibrated, msgspec.structs.replace(read_student(checkpoint), **measured))
    kept = export_bundle(calibrated, tmp_path / "float", ExportConfig(variant="float", threads=1)).manifest
    assert (kept.thresholds, kept.precision) == (measured["thresholds"], measured["precision"])
    assert kept.conformal.quantile == pytest.approx(0.8, abs=1e-12)
    moved = export_bundle(calibrated, tmp_path / "int8", LOOSE).manifest
    assert moved.variant == "static_int8" and moved.thresholds["flat"] is None
    assert 0 < abs(moved.conformal.quantile - 0.8) < 0.1 and abs(moved.thresholds["up"] - 0.4) < 0.1
    assert sum(moved.label_shares.values()) == pytest.approx(1)
    card = (tmp_path / "int8" / "README.md").read_text()
    assert "Thresholds were chosen for a precision of 0.8 on 70 texts, by labels that people gave: reached on these texts" in card
    assert "- `flat`: always abstained from" in card
    assert "Label sets cover 90% of texts like the 70 they were made on, by the teacher's labels, not people's: on average." in card


def test_dynamic_int8_is_measured_as_dependent_on_its_batch(checkpoint, tmp_path):
    config = ExportConfig(max_drop=0.5, min_agreement=0.5, max_change=1, variant="dynamic_int8", threads=1)
    report = export_bundle(checkpoint, tmp_path / "bundle", config)
    assert report.manifest.variant == "dynamic_int8"
    assert not report.manifest.batch_invariant
    assert report.quality.forms[-1].batch_change_max > 1e-4
    texts = ["rise", "the price will never fall much", "stay"]
    with Classifier.open(tmp_path / "bundle") as classifier:  # potstill runs each text alone, so here nothing moves
        assert classifier.classify(texts) == [classifier.classify([text])[0] for text in texts]


def test_a_form_that_was_asked_for_and_fails_leaves_the_old_bundle_alone(checkpoint, bundle, tmp_path):
    target = tmp_path / "bundle"
    export_bundle(checkpoint, target, ExportConfig(variant="float", threads=1))
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(
        UserError, match="static_int8 does not pass: a probability moves by .* at most 0 is allowed; allow more with"
    ):
        export_bundle(checkpoint, target, dataclasses.replace(LOOSE, max_change=0))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    export_bundle(checkpoint, target, LOOSE)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"variant": "int4"},
            "variant is 'int4'; allowed: auto, static_int8, static_int8_full_range, dynamic_int8, float_fused, float",
        ),
        ({"cpu": "sparc"}, "cpu is 'sparc'; allowed: any, vnni"),
        ({"max_drop": -0.1}, "max_drop is -0.1; it must be from 0 to 1"),
        ({"min_agreement": float("nan")}, "min_agreement is nan; it must be from 0 to 1"),
        ({"max_change": 2.0}, "max_change is 2; it must be from 0 to 1"),
        ({"threads": 0}, "threads is 0; it must be at least 1"),
    ],
)
def test_a_setting_that_no_export_can_meet_is_refused_before_any_work(values, message):
    with pytest.raises(UserError) as caught:
        ExportConfig(**values)
    assert str(caught.value) == message


def test_a_task_with_targets_is_exported_and_answered_in_pairs(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "pairs", target=True)
    export_bundle(checkpoint, tmp_path / "bundle", LOOSE)
    assert {row.target for row in read_golden(tmp_path / "bundle")} == {"acme"}
    with Classifier.open(tmp_path / "bundle") as classifier:
        assert classifier.classify(["it will rise"], ["acme"]) != classifier.classify(["it will rise"], ["puts"])


def test_hugging_face_tools_read_the_tokenizer_and_the_labels(bundle):
    config = AutoConfig.from_pretrained(bundle)
    assert [config.id2label[i] for i in range(3)] == LABELS
    assert config.label2id == {name: i for i, name in enumerate(LABELS)}
    tokenizer = AutoTokenizer.from_pretrained(bundle)
    with Classifier.open(bundle) as classifier:
        for text in ("the price will rise", "Never! " * 40):
            expected = tokenizer(text, truncation=True)["input_ids"]
            assert classifier.tokenizer.ids(text)["input_ids"][0].tolist() == expected


def test_the_bundle_says_nothing_about_the_machine_it_was_made_on(bundle, checkpoint):
    for path in bundle.iterdir():
        data = path.read_bytes()
        assert str(checkpoint).encode() not in data and b"/tmp" not in data, path.name


def test_the_model_card_has_the_scores_and_its_plain_onnxruntime_lines_run(bundle, tmp_path, monkeypatch, capsys):
    card = (bundle / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: onnx\npipeline_tag: text-classification\n")
    assert "| `up` | the price goes \\| up |" in card
    assert f"| validation | macro-F1 | {read_manifest(bundle).scores['validation']['macro_f1'].as_text()} |" in card
    code = card.split("```python\n")[2].split("```")[0]
    monkeypatch.chdir(bundle)
    exec(compile(code, "card", "exec"), {})
    shown = dict(
        item.split(": ") for item in capsys.readouterr().out.replace("np.float32(", "").replace(")", "").strip("{}\n").split(", ")
    )
    with Classifier.open(bundle) as classifier:
        expected = classifier.classify(["some text"])[0].probs
    assert [float(value) for value in shown.values()] == pytest.approx(list(expected.values()), abs=1e-5)


def test_the_lines_of_the_model_card_with_potstill_run(bundle, tmp_path, monkeypatch, capsys):
    if not hasattr(potstill, "Classifier"):
        pytest.skip("the package has no public names yet")
    code = (bundle / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    (tmp_path / "bundle").symlink_to(bundle)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "card", "exec"), {})
    with Classifier.open(bundle) as classifier:
        assert capsys.readouterr().out == f"{classifier.classify(['some text'])}\n"


@pytest.mark.parametrize(
    "name", ["student.json", "task.json", "calibration.jsonl", "validation.jsonl", "gate.jsonl", "tokenizer.json", "config.json"]
)
def test_a_checkpoint_without_one_of_its_files_is_refused(checkpoint, tmp_path, name):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in checkpoint.iterdir():
        if path.name != name:
            (folder / path.name).symlink_to(path)
    with pytest.raises(FormatError) as caught:
        export_bundle(folder, tmp_path / "bundle", LOOSE)
    assert name in str(caught.value) or name == "config.json"
    assert not (tmp_path / "bundle").exists()


def test_soft_labels_of_another_task_are_refused(checkpoint, tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in checkpoint.iterdir():
        if path.name != "validation.jsonl":
            (folder / path.name).symlink_to(path)
    row = json.loads((checkpoint / "validation.jsonl").read_text().splitlines()[0])
    row["probs"] = {"yes": 0.5, "no": 0.5}
    (folder / "validation.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(FormatError, match="validation.jsonl: line 1: probs: has labels"):
        export_bundle(folder, tmp_path / "bundle", LOOSE)
