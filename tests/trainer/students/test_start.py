import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.toy_task import LABELS, a_task, sure_rows, write_rows
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from potstill.contract.checkpoint import read_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.texts import Text
from potstill.trainer.config import TrainConfig
from potstill.trainer.evaluation.checkpoint_scores import predict
from potstill.trainer.run import train
from potstill.trainer.students.start import find_start, from_init
from potstill.trainer.training import student as training

pytestmark = pytest.mark.slow

QUICK = {"threads": 1, "batch_size": 8, "max_tokens": 16}
OWN = {
    "encoder": {"learning_rate": 6e-3, "head_rate": 6e-3, "epochs": 4},
    "static": {"family": "static", "learning_rate": 2e-2, "head_rate": 1e-1, "epochs": 6},
    "charformer": {"family": "charformer", "learning_rate": 1e-3, "head_rate": 5e-3, "epochs": 1},
}
GENTLE = {"learning_rate": 1e-7, "head_rate": None, "epochs": 1}  # one gentle epoch leaves a student nearly as it was


@pytest.fixture(scope="module")
def soft_labels(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("labels") / "soft_labels.jsonl", sure_rows(150, a_task()))


@pytest.fixture(scope="module")
def students(backbone, soft_labels, tmp_path_factory):
    """A trained student of every family."""
    folder = tmp_path_factory.mktemp("students")
    for family, own in OWN.items():
        train(a_task(), soft_labels, folder / family, TrainConfig(backbone=str(backbone), **QUICK, **own))
    return folder


def start(folder, labels=LABELS, *, pair=False, **changes):
    torch.manual_seed(0)
    return from_init(folder, labels, TrainConfig(**QUICK | {"init": str(folder)} | changes), pair=pair)


def logits(student, texts=("rise and calls", "they say fall", "stay")):
    return student.logits(student.encode([(text, None) for text in texts]))


@pytest.mark.parametrize("family", sorted(OWN))
def test_a_student_that_starts_from_another_goes_on_where_that_one_was(students, soft_labels, tmp_path, family):
    folder = students / family
    config = TrainConfig(init=str(folder), **QUICK, **OWN[family] | GENTLE)
    report = train(a_task(), soft_labels, tmp_path / "student", config)
    assert report.as_text().splitlines()[1] == f"started from {folder} and its head"
    texts = [Text(row.text, row.id) for row in sure_rows(30, a_task(), seed=1)]
    before, after = (predict(place, texts) for place in (folder, tmp_path / "student"))
    np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))


@pytest.mark.parametrize("family", sorted(OWN))
def test_a_head_of_other_labels_is_drawn_anew_and_the_rest_stays(students, family):
    initial = start(students / family, ["bull", "bear"], family=family)
    assert not initial.has_trained_head
    assert initial.notes == (f"started from {students / family} under a new head, because its labels are up, flat, down",)
    assert list(initial.student.model.config.id2label.values()) == ["bull", "bear"]
    saved = AutoModelForSequenceClassification.from_pretrained(students / family)
    torch.testing.assert_close(initial.student.model.base_model.state_dict(), saved.base_model.state_dict(), atol=0, rtol=0)
    again = start(students / family, ["bull", "bear"], family=family)
    torch.testing.assert_close(initial.student.model.state_dict(), again.student.model.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize("family", sorted(OWN))
def test_a_head_whose_labels_are_in_another_order_is_put_into_the_tasks(students, family):
    whole, turned = start(students / family, family=family), start(students / family, LABELS[::-1], family=family)
    assert turned.has_trained_head
    assert turned.notes == (f"started from {students / family} and its head, with its labels put into the task's order",)
    np.testing.assert_allclose(logits(turned.student), logits(whole.student)[:, ::-1], atol=1e-6)


def test_labels_that_differ_in_case_alone_are_the_same(students, tmp_path):
    folder = shutil.copytree(students / "encoder", tmp_path / "student")
    content = (folder / "config.json").read_text().replace('"flat"', '"FLAT"').replace('"up"', '"Up"')
    (folder / "config.json").write_text(content)
    initial = start(folder)
    assert initial.has_trained_head
    assert list(initial.student.model.config.id2label.values()) == LABELS


def test_a_bare_encoder_gets_a_new_head_as_a_backbone_does(backbone):
    initial = start(backbone)
    assert initial.notes == (f"started from {backbone} under a new head, because it has none",)


def test_a_classifier_of_any_number_of_labels_gets_a_new_head(students, tmp_path):
    folder = shutil.copytree(students / "encoder", tmp_path / "student")
    content = (folder / "config.json").read_text().replace("single_label", "multi_label")
    (folder / "config.json").write_text(content)
    assert start(folder).notes[0].endswith("under a new head, because it chooses any number of labels")


def test_a_classifier_that_transformers_saved_keeps_its_head_and_is_its_own_backbone(backbone, soft_labels, tmp_path):
    folder = shutil.copytree(backbone, tmp_path / "classifier")
    model = BertForSequenceClassification.from_pretrained(folder, num_labels=3, id2label=dict(enumerate(LABELS)))
    model.save_pretrained(folder)
    config = TrainConfig(init=str(folder), **QUICK, **OWN["encoder"])
    report = train(a_task(), soft_labels, tmp_path / "student", config)
    assert report.fit.notes == (f"started from {folder} and its head",)
    assert (report.student.backbone, report.student.init) == (str(folder), str(folder))
    assert report.student.backbone_digest == report.student.init_digest == find_start(config).sha256


def test_a_static_student_of_texts_alone_gets_a_new_head_where_texts_have_targets(students):
    initial = start(students / "static", family="static", pair=True)
    assert initial.notes[0].endswith("under a new head, because it was trained on texts without a target")
    model = initial.student.model
    assert model.dense.in_features == 2 * 3 * model.config.hidden_size
    assert initial.student.encode([("rise", "acme")])[0]["token_type_ids"][-1] == 1


def test_the_backbone_that_is_recorded_is_that_of_the_student_it_started_from(students, backbone, soft_labels, tmp_path):
    config = TrainConfig(init=str(students / "encoder"), **QUICK, epochs=1)
    train(a_task(), soft_labels, tmp_path / "student", config)
    student = read_student(tmp_path / "student")
    assert (student.backbone, student.init) == (str(backbone), str(students / "encoder"))
    assert student.backbone_digest == read_student(students / "encoder").backbone_digest
    assert student.init_digest == find_start(config).sha256 != student.backbone_digest


def test_a_trained_head_learns_no_faster_than_the_body_unless_it_is_told_to(students, soft_labels, tmp_path, monkeypatch):
    seen, fit = [], training.fit
    monkeypatch.setattr(training, "fit", lambda *args: seen.append(args[3]) or fit(*args))
    config = TrainConfig(init=str(students / "encoder"), **QUICK, epochs=1)
    for told in (config, replace(config, head_rate=7e-3)):
        train(a_task(), soft_labels, tmp_path / "student", told)
    body, head = seen[0].rates(read_student(tmp_path / "student").n_train)
    assert head == body < TrainConfig().rates(100)[1]
    assert seen[1].head_rate == 7e-3


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        (
            "static",
            {},
            "holds a student of family static, but one of family encoder is to be trained; add --family static, or name",
        ),
        ("encoder", {"family": "charformer"}, "holds a student of family encoder, but one of family charformer is to be trained"),
        (
            "charformer",
            {"family": "charformer", "max_tokens": 17},
            "max_tokens is 17; .*, which reads 4 bytes for each, allows at most",
        ),
        ("encoder", {"max_tokens": 65}, "max_tokens is 65; encoder allows 6 to 16"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_in_one_line(students, soft_labels, tmp_path, family, options, message):
    config = TrainConfig(**QUICK | {"init": str(students / family)} | options)
    with pytest.raises(UserError, match=message) as caught:
        train(a_task(), soft_labels, tmp_path / "student", config)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "is not a folder; --init takes a student's checkpoint, or a folder of transformers"),
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no model.safetensors or pytorch_model.bin"),
    ],
)
def test_a_folder_that_lacks_something_is_refused(students, soft_labels, tmp_path, name, message):
    folder = tmp_path / "init"
    if name:
        shutil.copytree(students / "encoder", folder)
        (folder / name).unlink()
    with pytest.raises(FormatError, match=message):
        train(a_task(), soft_labels, tmp_path / "student", TrainConfig(init=str(folder), **QUICK))
    assert not (tmp_path / "student").exists()


def test_other_weights_in_the_same_folder_are_another_run(students, soft_labels, tmp_path):
    folder = shutil.copytree(students / "encoder", tmp_path / "init")
    config = TrainConfig(init=str(folder), **QUICK, epochs=1, save_every=0)
    partial = tmp_path / "student.partial"

    def killed(stage, done, total, loss):
        if done == 3:
            raise MemoryError

    with pytest.raises(MemoryError):
        train(a_task(), soft_labels, tmp_path / "student", config, killed)
    settings = json.loads((partial / "run.json").read_text())
    assert settings["weights that it starts from"] == find_start(config).sha256
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.classifier.bias.data += 1
    model.save_pretrained(folder)
    with pytest.raises(UserError, match=r"an unfinished run with other settings \(weights that it starts from was .*…, is .*…\)"):
        train(a_task(), soft_labels, tmp_path / "student", config)
