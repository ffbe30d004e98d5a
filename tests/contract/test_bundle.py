import json
import os
import subprocess

import pytest

from potstill.contract.bundle import (
    REQUIRED_FILES,
    Golden,
    Manifest,
    Provenance,
    read_golden,
    read_manifest,
    verify_files,
    write_golden,
    write_manifest,
    write_sums,
)
from potstill.contract.errors import FormatError

MANIFEST = Manifest(
    format=1, name="stance", labels=["up", "down"], target=False, max_tokens=128, temperature=1.5, thresholds=None,
    variant="static_int8", batch_invariant=True, scores={},
    provenance=Provenance(
        task_digest="a", teacher_digest="b", backbone="minilm", backbone_digest="c", soft_labels_digest="d", loss="reg", n_train=9
    ),
)  # fmt: skip
GOLDEN = [Golden(text="calls \N{ROCKET}", probs=[0.75, 0.25]), Golden(text="puts", probs=[0.125, 0.875], target="ACME")]


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("model.onnx", "tokenizer.json", "quality.json", "README.md"):
        (folder / name).write_text(name)
    write_manifest(folder, MANIFEST)
    write_golden(folder, GOLDEN)
    write_sums(folder)
    return folder


def refusal(call, *args):
    with pytest.raises(FormatError) as caught:
        call(*args)
    return str(caught.value)


def test_a_whole_bundle_passes_and_reads_back(bundle):
    verify_files(bundle)
    assert read_manifest(bundle) == MANIFEST
    assert read_golden(bundle) == GOLDEN


def test_a_certificate_that_is_not_there_is_not_mentioned_so_that_earlier_versions_read_the_rest(bundle):
    assert MANIFEST.certificate is None
    assert "certificate" not in json.loads((bundle / "bundle.json").read_bytes())


def test_the_ordinary_tool_reads_the_sums(bundle):
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=bundle, check=True, capture_output=True)


@pytest.mark.parametrize("name", [*REQUIRED_FILES, "README.md"])
def test_one_changed_bit_of_any_file_is_refused(bundle, name):
    path = bundle / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    message = refusal(verify_files, bundle)
    assert message.startswith(f"{path}: was changed: its SHA-256 is ") and message.endswith("…; copy the bundle again")


@pytest.mark.parametrize("name", [*REQUIRED_FILES, "README.md"])
def test_a_missing_file_is_refused(bundle, name):
    (bundle / name).unlink()
    expected = f"{bundle / name}: is missing or not a plain file, but SHA256SUMS lists it; copy the whole bundle again"
    assert refusal(verify_files, bundle) == expected


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_sums_that_do_not_list_a_required_file_are_refused(bundle, name):
    (bundle / name).unlink()
    write_sums(bundle)
    assert refusal(verify_files, bundle) == f"{bundle / 'SHA256SUMS'}: does not list {name}; export the bundle again"


@pytest.mark.parametrize("make", [lambda path: path.write_text("x"), lambda path: path.mkdir()])
def test_what_is_not_listed_is_refused(bundle, make):
    make(bundle / "extra.py")
    expected = f"{bundle / 'extra.py'}: is not listed in SHA256SUMS; remove it, or export the bundle again"
    assert refusal(verify_files, bundle) == expected


def test_a_link_in_place_of_a_file_is_refused(bundle, tmp_path):
    os.rename(bundle / "README.md", tmp_path / "README.md")
    (bundle / "README.md").symlink_to(tmp_path / "README.md")
    assert "README.md: is missing or not a plain file" in refusal(verify_files, bundle)


@pytest.mark.parametrize(
    "line",
    ["", "abc  model.onnx", "0" * 64 + " model.onnx", "0" * 64 + "  ../model.onnx", "0" * 64 + "  .hidden", "F" * 64 + "  x"],
)
def test_a_line_of_the_sums_that_could_lead_astray_is_refused(bundle, line):
    sums = bundle / "SHA256SUMS"
    n_lines = len(sums.read_text().splitlines())
    sums.write_text(sums.read_text() + line + "\n")
    problem = "must be 64 hexadecimal digits, two spaces and a plain file name, each name once"
    assert refusal(verify_files, bundle) == f"{sums}: line {n_lines + 1}: {problem}"


def test_a_name_that_is_listed_twice_is_refused(bundle):
    sums = bundle / "SHA256SUMS"
    sums.write_text(sums.read_text() + sums.read_text().splitlines()[0] + "\n")
    assert "each name once" in refusal(verify_files, bundle)


def test_a_folder_without_sums_is_no_bundle(tmp_path):
    assert refusal(verify_files, tmp_path) == f"{tmp_path}: is not a bundle: it has no SHA256SUMS; make one with: potstill export"


def test_what_stands_in_the_place_of_a_bundle_is_told_and_what_to_name(tmp_path, bundle):
    for name, mark in (("student", "student.json"), ("project/bundle", "SHA256SUMS")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / mark).touch()
    (tmp_path / "texts.jsonl").touch()
    told = {
        "none": "there is no such folder; check the path, or make one with: potstill export",
        "texts.jsonl": "it is a file; name the folder that potstill export wrote",
        "student": f"it is a checkpoint; make a bundle of it with: potstill export {tmp_path / 'student'} BUNDLE",
        "project": f"it has no SHA256SUMS; name the one in it: {tmp_path / 'project' / 'bundle'}",
    }
    for name, problem in told.items():
        assert refusal(verify_files, tmp_path / name) == f"{tmp_path / name}: is not a bundle: {problem}"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": 0}, "format: is 0; this version reads 1"),
        ({"format": 7}, "format: is 7; this version reads 1 and 2, a newer one wrote it: update potstill"),
        ({"format": 7, "sorcery": True}, "format: is 7; this version reads 1 and 2, a newer one wrote it: update potstill"),
        ({"format": "7"}, "format: expected `int`, got `str`"),
        ({"lables": []}, f"unknown key 'lables' (did you mean 'labels'?); allowed: {', '.join(Manifest.__struct_fields__)}"),
        ({"labels": ["up"]}, "labels: are ['up']; there must be at least 2, all different"),
        ({"temperature": 0.0}, "temperature: is 0.0; it must be above 0"),
        ({"thresholds": {"flat": 0.5}}, "thresholds.flat: is not a label; allowed: up, down"),
        ({"bias": [0.5]}, "bias: has 1 numbers; there are 2 labels"),
        ({"bias": [0.5, "x"]}, "bias[1]: expected `float`, got `str`"),
        (
            {"conformal": {"coverage": 0.9, "quantile": 2, "n": 9, "source": "gold"}},
            "conformal.quantile: is 2.0; it must be from 0 to 1",
        ),
        ({"label_shares": {"up": 0.4, "down": 0.4}}, "label_shares: sum to 0.80000000; they must sum to 1 within 1e-06"),
        ({"batch_invariant": "yes"}, "batch_invariant: expected `bool`, got `str`"),
        ({"provenance": {}}, "provenance: object missing required field `task_digest`"),
    ],
)
def test_a_broken_manifest_is_refused_with_place_and_problem(bundle, changes, problem):
    path = bundle / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert refusal(read_manifest, bundle) == f"{path}: {problem}"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "has no text; export the bundle again"),
        (b'{"text": "a"}\n', "line 1: object missing required field `probs`"),
        (b'{"text": "a", "probs": [1.0]}\n{"text": "a", "probs": ["x"]}\n', "line 2: probs[0]: expected `float`, got `str`"),
        (b"{", "line 1: not valid JSON: Input data was truncated"),
    ],
)
def test_broken_golden_texts_are_refused_with_place_and_problem(bundle, data, problem):
    (bundle / "golden.jsonl").write_bytes(data)
    assert refusal(read_golden, bundle) == f"{bundle / 'golden.jsonl'}: {problem}"
