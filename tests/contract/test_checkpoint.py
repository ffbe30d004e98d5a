import json

import msgspec
import pytest

from potstill.contract.checkpoint import Student, read_student, write_student
from potstill.contract.errors import FormatError
from potstill.contract.questions.decision import Conformal, Precision, min_calibration_texts
from potstill.contract.scores.record import Score

STUDENT = Student(
    format=1, task_name="stance", labels=["up", "down"], family="encoder", target=False, max_tokens=128, temperature=1.5,
    thresholds={"up": 0.6}, loss="reg", seed=0, task_digest="a", soft_labels_digest="b", teacher_digest="c", backbone="minilm",
    backbone_digest="d", n_train=10, n_validation=2, scores={"validation": {"accuracy": Score(value=0.5, low=0.4, high=0.6, n=2)}},
)  # fmt: skip
PRECISION = {"wanted": 0.9, "n": 200, "source": "gold"}
CONFORMAL = {"coverage": 0.9, "quantile": 0.7, "n": 200, "source": "teacher"}


def test_a_student_survives_being_written_and_read(tmp_path):
    full = msgspec.structs.replace(
        STUDENT,
        thresholds={"up": 0.6, "down": None},
        precision=Precision(**PRECISION),
        conformal=Conformal(**CONFORMAL),
        label_shares={"up": 0.25, "down": 0.75},
    )
    for student in (STUDENT, full):
        write_student(tmp_path, student)
        assert read_student(tmp_path) == student


@pytest.mark.parametrize(("coverage", "n"), [(0.5, 1), (0.75, 3), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_a_coverage_takes_as_many_texts_as_the_textbook_says(coverage, n):
    assert min_calibration_texts(coverage) == n


def test_a_folder_without_a_student_is_no_checkpoint(tmp_path):
    (tmp_path / "texts.jsonl").touch()
    for name, mark in (("bundle", "SHA256SUMS"), ("project/student", "student.json")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / mark).touch()
    told = {
        "none": "there is no such folder; check the path, or make one with: potstill train",
        "texts.jsonl": "it is a file; name the folder that potstill train wrote",
        "bundle": "it is a bundle; name the checkpoint that it was exported from",
        "project": f"it has no student.json; name the one in it: {tmp_path / 'project' / 'student'}",
        ".": "it has no student.json; make one with: potstill train",
    }
    for name, problem in told.items():
        with pytest.raises(FormatError) as caught:
            read_student(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: is not a checkpoint: {problem}"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": 2}, "format: is 2; this version reads 1"),
        ({"format": 3, "sorcery": 1}, "format: is 3; this version reads 1 and 2, a newer one wrote it: update potstill"),
        (
            {"temperatur": 1.0},
            f"unknown key 'temperatur' (did you mean 'temperature'?); allowed: {', '.join(Student.__struct_fields__)}",
        ),
        ({"labels": ["up"]}, "labels: are ['up']; there must be at least 2, all different"),
        ({"labels": ["up", "up"]}, "labels: are ['up', 'up']; there must be at least 2, all different"),
        ({"labels": "up"}, "labels: expected `array`, got `str`"),
        ({"temperature": 0}, "temperature: is 0.0; it must be above 0"),
        ({"temperature": -1.0}, "temperature: is -1.0; it must be above 0"),
        ({"thresholds": {"flat": 0.5}}, "thresholds.flat: is not a label; allowed: up, down"),
        ({"thresholds": {"up": 1.5}}, "thresholds.up: is 1.5; it must be from 0 to 1, or null for a label never answered"),
        (
            {"thresholds": None, "precision": PRECISION},
            "precision: is given without thresholds; leave it out, or calibrate again",
        ),
        ({"precision": PRECISION | {"wanted": 0}}, "precision.wanted: is 0.0; it must be above 0 and at most 1"),
        ({"precision": PRECISION | {"wanted": 1.1}}, "precision.wanted: is 1.1; it must be above 0 and at most 1"),
        ({"precision": PRECISION | {"n": 0}}, "precision.n: is 0; it must be at least 1"),
        ({"precision": PRECISION | {"confidence": 1.0}}, "precision.confidence: is 1.0; it must be above 0 and below 1"),
        ({"conformal": CONFORMAL | {"confidence": 0}}, "conformal.confidence: is 0.0; it must be above 0 and below 1"),
        ({"conformal": CONFORMAL | {"n": 28, "confidence": 0.95}}, "conformal.n: is 28; a coverage of 0.9 needs at least 29 texts"),
        ({"precision": PRECISION | {"source": "me"}}, "precision.source: is 'me'; allowed: gold, teacher"),
        ({"conformal": CONFORMAL | {"coverage": 1.0}}, "conformal.coverage: is 1.0; it must be above 0 and below 1"),
        ({"conformal": CONFORMAL | {"quantile": -0.1}}, "conformal.quantile: is -0.1; it must be from 0 to 1"),
        ({"conformal": CONFORMAL | {"n": 8}}, "conformal.n: is 8; a coverage of 0.9 needs at least 9 texts"),
        ({"conformal": {"coverage": 0.9}}, "conformal: object missing required field `quantile`"),
        ({"label_shares": {"up": 1.0}}, "label_shares: has labels ['up']; expected ['down', 'up']"),
        ({"label_shares": {"up": 1.0, "down": 0.0}}, "label_shares.down: is 0.0; it must be above 0 and at most 1"),
        (
            {"label_shares": {"up": 0.5, "down": 0.4}},
            "label_shares: sum to 0.90000000; they must sum to 1 within 1e-06",
        ),
        ({"scores": {"gold": {"accuracy": 0.5}}}, "scores[...][...]: expected `object`, got `float`"),
        ({"max_tokens": "128"}, "max_tokens: expected `int`, got `str`"),
    ],
)
def test_a_broken_student_is_refused_with_place_and_problem(tmp_path, changes, problem):
    write_student(tmp_path, STUDENT)
    path = tmp_path / "student.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(FormatError) as caught:
        read_student(tmp_path)
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize(
    ("data", "problem"), [(b"", "not valid JSON: Input data was truncated"), (b"[]", "expected `object`, got `array`")]
)
def test_a_student_that_is_no_json_object_is_refused(tmp_path, data, problem):
    (tmp_path / "student.json").write_bytes(data)
    with pytest.raises(FormatError) as caught:
        read_student(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'student.json'}: {problem}"
