"""`potstill evaluate` at the console: a real student, its real bundle, its teacher and every kind of baseline on the same texts."""

import json
import shutil

import msgspec
import numpy as np
import pytest
from support.tiny_backbone import trained_student
from support.tiny_bundle import unusual
from support.toy_task import LABELS, a_task, gold_texts, soft_label, write_gold

from potstill.commands.main import run as console
from potstill.contract.bundle import read_manifest, write_manifest, write_sums
from potstill.contract.soft_label import write_soft_labels
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.trainer.evaluation.checkpoint_scores import evaluate, predict

pytestmark = pytest.mark.slow

LOOSE = ExportConfig(max_drop=1, min_agreement=0, threads=1)
FOREIGN = {"up": "positive", "flat": "neutral", "down": "negative"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a student, its bundle and soft labels, gold texts, the teacher's answers to them, and a ready-made classifier."""
    folder = tmp_path_factory.mktemp("toy")
    checkpoint, _ = trained_student(folder)
    export_bundle(checkpoint, folder / "bundle", LOOSE)
    texts = gold_texts(60)
    write_gold(folder / "gold.jsonl", texts)
    rng = np.random.default_rng(0)
    guesses = [text.gold if rng.random() < 0.7 else "flat" for text in texts]
    write_soft_labels(
        folder / "teacher.jsonl", [soft_label(text.text, guess, a_task(), 6) for text, guess in zip(texts, guesses, strict=True)]
    )
    shutil.copytree(checkpoint, folder / "finbert", ignore=shutil.ignore_patterns("student.json"))
    config = json.loads((checkpoint / "config.json").read_text())
    names = [FOREIGN[name] for name in LABELS]
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    (folder / "finbert" / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def potstill(place, monkeypatch, capsys):
    """Runs the console there: (exit code, standard output, standard error)."""

    def run(*args):
        monkeypatch.chdir(place)
        capsys.readouterr()
        code = console(["evaluate", *args])
        return code, *capsys.readouterr()

    return run


EVERYONE = (
    *("student", "gold.jsonl", "--bundle", "bundle", "--teacher", "teacher.jsonl", "--soft-labels", "soft_labels.jsonl"),
    *("--baseline", "majority", "--baseline", "tfidf", "--baseline", "finbert", "--map", "positive=up,negative=down,neutral=flat"),
)


def test_without_options_the_student_is_scored_as_ever(potstill, place):
    code, out, err = potstill("student", "gold.jsonl")
    assert (code, err) == (0, "")
    expected = evaluate(place / "student", gold_texts(60))
    assert out.splitlines()[3].split()[:3] == ["student", "60", f"{expected['accuracy'].value:.3f}"]
    assert out.splitlines()[-4].split() == ["gold", "/", "student", *LABELS]


def test_everyone_is_scored_on_the_same_texts_and_tested_against_the_student(potstill, place):
    code, out, err = potstill(*EVERYONE, "--json", "--predictions", "everyone.jsonl")
    assert (code, err) == (0, "")
    content = json.loads(out)
    names = ["student", "teacher", "bundle", "majority", "tfidf", "finbert"]
    assert list(content["systems"]) == names and list(content["student_minus"]) == names[1:]
    assert {content["systems"][name]["accuracy"]["n"] for name in names} == {60}
    scores = {name: content["systems"][name]["macro_f1"]["value"] for name in names}
    assert scores["tfidf"] > 0.9 > scores["teacher"] > scores["majority"]
    assert scores["student"] > 0.9 and abs(scores["bundle"] - scores["student"]) < 0.1
    assert scores["finbert"] == scores["student"]  # the same network under other names
    assert content["student_minus"]["finbert"]["mcnemar"]["p"] == 1
    lines = [json.loads(line) for line in (place / "everyone.jsonl").read_text().splitlines()]
    assert [line["gold"] for line in lines] == [text.gold for text in gold_texts(60)]
    probs = [[line["probs"]["student"][name] for name in LABELS] for line in lines]
    np.testing.assert_allclose(probs, predict(place / "student", gold_texts(60)), atol=1e-12)


def test_three_labels_become_two(potstill):
    binary = (*EVERYONE[:-1], "positive=up,negative=down,neutral=,flat=")
    code, out, err = potstill(*binary)
    assert code == 0
    assert out.startswith("40 gold texts, labels up, down; 95 % intervals in brackets\n")
    assert err.splitlines()[0] == "left out 20 of 60 gold texts by the map: 20 'flat'"
    assert len(out.splitlines()[-1].split()) == 3


def test_the_gold_baseline_is_trained_and_scored_by_folds(potstill):
    code, out, err = potstill("student", "gold.jsonl", "--baseline", "gold")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[2:5]] == ["system", "student", "gold"]
    assert (
        err.splitlines()[-1]
        == "gold: 5 students of the same backbone, each trained and calibrated on the gold labels of the other folds"
    )


def test_texts_that_the_teacher_lacks_are_scored_for_nobody(potstill, place):
    rows = (place / "teacher.jsonl").read_text().splitlines()
    (place / "fewer.jsonl").write_text("\n".join(rows[5:]))
    code, out, err = potstill("student", "gold.jsonl", "--teacher", "fewer.jsonl")
    assert (code, err) == (0, "5 of 60 gold texts are not scored for any system, because fewer.jsonl lacks the teacher's labels\n")
    assert [line.split()[1] for line in out.splitlines()[3:5]] == ["55", "55"]


def test_gold_texts_that_the_student_met_in_training_are_told(potstill, place):
    rows = [json.loads(line) for line in (place / "soft_labels.jsonl").read_text().splitlines()]
    held_out = {json.loads(line)["text"] for line in (place / "student" / "validation.jsonl").read_text().splitlines()}
    met = next(row for row in rows if row["agreement"] == 1 and row["text"] not in held_out)
    gold = [*gold_texts(60)[1:], msgspec.structs.replace(gold_texts(60)[0], text=met["text"], id="met")]
    write_gold(place / "met.jsonl", gold)
    code, _, err = potstill("student", "met.jsonl", "--soft-labels", "soft_labels.jsonl")
    assert code == 0
    assert err.startswith("student: ") and err.endswith(
        " of the texts are among those it was trained on, with the teacher's labels\n"
    )


def test_a_bundle_of_another_student_and_with_another_order_of_labels_is_read_by_name_and_told(potstill, place):
    shutil.copytree(place / "bundle", place / "turned")
    manifest = read_manifest(place / "turned")
    made_of = msgspec.structs.replace(manifest.provenance, loss="cls")
    write_manifest(place / "turned", msgspec.structs.replace(manifest, labels=LABELS[::-1], provenance=made_of))
    write_sums(place / "turned")
    code, out, err = potstill("student", "gold.jsonl", "--bundle", "turned", "--json")
    assert code == 0 and err == ""
    found = json.loads(out)["systems"]
    assert found["bundle"]["note"] == f"{manifest.variant}; exported from another student"
    assert found["bundle"]["accuracy"]["value"] < 0.5 < found["student"]["accuracy"]["value"]


def test_a_bundle_with_what_no_export_writes_is_scored_only_where_it_is_trusted(potstill, place):
    shutil.copytree(place / "bundle", place / "unusual")
    unusual(place / "unusual")
    code, _, err = potstill("student", "gold.jsonl", "--bundle", "unusual")
    assert code == 1 and "operator EyeLike: is none that an export writes" in err
    answers = [json.loads(potstill("student", "gold.jsonl", "--bundle", *options, "--json")[1])["systems"]["bundle"]
               for options in (["unusual", "--trust"], ["bundle"])]  # fmt: skip
    assert answers[0] == answers[1]


WRONG = [
    (("--map", "positive"), "map: 'positive' is not NAME=LABEL, or NAME= to leave NAME out; the labels are up, flat, down"),
    (("--map", "flat=,down="), "map: leaves fewer than two labels to score (up); leave out less"),
    (("--map", "postive=up"), "map: no label is named 'postive'; gold.jsonl has down, flat, up; the student has up, flat, down"),
    (("--baseline", "finbert"), "finbert: 'positive' is not a label; allowed: up, flat, down; say what it stands for with --map 'positive=LABEL'"),
    (("--baseline", "nobody"), "baseline 'nobody' is neither a folder nor one of majority, tfidf, gold; name one of these or a folder"),
    (("--baseline", "bundle"), "cannot be loaded as a classifier"),
    (("--baseline", "backbone"), "backbone: 'LABEL_0' is not a label; allowed: up, flat, down; say what it stands for with --map 'LABEL_0=LABEL'"),
    (("--baseline", "tfidf"), "baseline tfidf: is trained on the student's soft labels; name their file with --soft-labels"),
    (("--soft-labels", "teacher.jsonl"), "teacher.jsonl: is not the file that the student was trained on"),
    (("--soft-labels", "absent.jsonl"), "absent.jsonl: no such file; check the path"),
    (("--teacher", "soft_labels.jsonl"), "soft_labels.jsonl: holds none of the 60 gold texts; label them with: potstill label --gold gold.jsonl"),
    (("--teacher", "gold.jsonl"), "gold.jsonl: holds texts (text, id, gold), not soft labels; make them of texts with: potstill label TASK gold.jsonl"),
    (("--bundle", "student"), "student: is not a bundle: it is a checkpoint; make a bundle of it with: potstill export student BUNDLE"),
    (("--predictions", "gold.jsonl/p"), "gold.jsonl/p: cannot be written"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "message"), WRONG, ids=[" ".join(args) for args, _ in WRONG])
def test_what_does_not_fit_is_one_line_and_no_scores(potstill, args, message):
    code, out, err = potstill("student", "gold.jsonl", *args)
    assert (code, out) == (1, "")
    assert err.startswith("potstill: ") and message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": ["up", "flat", "sideways"], "label_shares": None},
            "other: labels: are up, flat, sideways; the student's are up, flat, down",
        ),
        ({"target": True}, "other: target: is true, but the student reads the text alone; export it again"),
    ],
)
def test_a_bundle_that_decides_something_else_is_refused(potstill, place, change, message):
    shutil.rmtree(place / "other", ignore_errors=True)
    shutil.copytree(place / "bundle", place / "other")
    write_manifest(place / "other", msgspec.structs.replace(read_manifest(place / "bundle"), **change))
    write_sums(place / "other")
    code, _, err = potstill("student", "gold.jsonl", "--bundle", "other")
    assert code == 1 and message in err
