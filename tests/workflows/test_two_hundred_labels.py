"""Two hundred labels whose names begin alike, from texts to an answering bundle, with a real teacher, encoder and student."""

import math

import pytest
from support.tiny_backbone import VOCABULARY, write_backbone

from potstill.contract.soft_label import read_soft_labels
from potstill.contract.task import Example, Label, Task
from potstill.contract.texts import Text, write_texts
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.labeler.config import LabelConfig
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teachers.config import TeacherConfig
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.config import TrainConfig
from potstill.trainer.run import train
from potstill.workflows.labelling import label

pytestmark = pytest.mark.slow

THINGS = [f"{kind} {part}" for kind in ("card", "card payment", "card payment to", "account", "transfer") for part in "abcdefgh"]
STATES = ["", " late", " lost", " lost twice", " not working"]
NAMES = [thing + state for thing in THINGS for state in STATES]  # every second one is the beginning of another
TASK = Task(
    format=1,
    name="bank",
    question="What is it?",
    guideline="",
    labels=[Label(name=name) for name in NAMES],
    examples=[Example(text=f"my {name} please", label=name) for name in NAMES[::4]],
)


def test_two_hundred_labels_that_begin_alike_become_a_bundle(tiny_models, tmp_path):
    assert len(NAMES) == len(set(NAMES)) == 200
    texts = [Text(f"hello, my {name}, number {n}", f"{n} {name}") for n in range(2) for name in NAMES[::9]]
    (tmp_path / "texts.jsonl").write_bytes(write_texts(texts))
    report = label(
        TASK,
        tmp_path / "texts.jsonl",
        tmp_path / "out",
        LabelConfig(mode="direct", n_paths=2),
        teacher=TeacherConfig(str(tiny_models["dense"]), threads=1, parallel=16),
    )
    rows = read_soft_labels(tmp_path / "out" / "soft_labels.parquet")
    assert rows == report.rows and len(rows) == len(texts) == 46
    for row in rows:
        assert len(row.probs) == 200 and min(row.probs.values()) > 0
        assert math.fsum(row.probs.values()) == pytest.approx(1, abs=1e-6)
        assert row.method.endswith("+among10") and sum(row.votes.values()) == 2
    with LabelStore.read(tmp_path / "out" / "labels.db") as store:
        asked = store.candidates(store.runs()[-1])
    right = [NAMES.index(text.id.partition(" ")[2]) in asked[text.id].labels for text in texts]
    assert sum(right) > 0.8 * len(texts)  # the text spells the name

    backbone = write_backbone(tmp_path / "backbone", VOCABULARY)
    config = TrainConfig(
        family="static", backbone=str(backbone), epochs=1, max_tokens=24, min_agreement=0.0, threads=1, validation_share=0.2
    )
    student = train(TASK, tmp_path / "out" / "soft_labels.parquet", tmp_path / "student", config).student
    assert student.labels == NAMES
    bundle = export_bundle(tmp_path / "student", tmp_path / "bundle", ExportConfig(variant="float", threads=1)).bundle
    with Classifier.open(bundle) as classifier:
        (answer,) = classifier.classify(["my card payment to c is lost twice"])
    assert answer.label in NAMES and len(answer.probs) == 200
    assert math.fsum(answer.probs.values()) == pytest.approx(1, abs=1e-6)
