import json

import numpy as np
import pytest
from support.tiny_backbone import joint_student
from support.toy_questions import a_questionnaire, answer_rows, answered_gold

from potstill.commands.main import run as console
from potstill.contract.checkpoint import read_student
from potstill.contract.errors import UserError
from potstill.contract.questions.kind_scores import MAIN, scores_of
from potstill.contract.questions.soft_answers import write_soft_answers
from potstill.contract.texts import Text, write_texts
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.trainer.evaluation.checkpoint_scores import predict
from potstill.trainer.evaluation.comparison_text import as_json, as_text, notes, predictions
from potstill.trainer.evaluation.questions import read_gold_answers, student_answers
from potstill.workflows.evaluation import EvaluateConfig, evaluate
from potstill.workflows.overview.reporting import ReportFiles, write_report

pytestmark = pytest.mark.slow

KINDS = {"move": "choice", "asks": "yesno", "topics": "tags", "sure": "degree"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(checkpoint, gold file, teacher's soft labels of two thirds of it, bundle)."""
    folder = tmp_path_factory.mktemp("evaluated")
    checkpoint, _ = joint_student(folder, family="static", epochs=8)
    task = a_questionnaire()
    rows = answer_rows(90, task, seed=5)
    texts = answered_gold(30) + [Text(row.text, row.id, gold=gold_of(row)) for row in rows]
    (folder / "gold.jsonl").write_bytes(write_texts(texts))
    write_soft_answers(folder / "taught.jsonl", rows)
    bundle = export_bundle(checkpoint, folder / "bundle", ExportConfig(variant="float", threads=1)).bundle
    return checkpoint, folder / "gold.jsonl", folder / "taught.jsonl", bundle


def gold_of(row):
    """What the teacher is surest of as gold; `sure` is left out."""
    found = {}
    for name, kind in KINDS.items():
        probs = row.answers[name].probs
        found[name] = [tag for tag, p in probs.items() if p >= 0.5] if kind == "tags" else max(probs, key=probs.get)
    return json.dumps({name: found[name] for name in ("move", "asks", "topics")})


def test_each_question_has_the_metrics_of_its_kind_on_the_texts_that_answer_it(files):
    checkpoint, gold, _, _ = files
    found = evaluate(checkpoint, gold)
    assert [(one.head.name, one.n) for one in found.questions] == [("move", 120), ("asks", 120), ("topics", 120), ("sure", 30)]
    student = read_student(checkpoint)
    answers = read_gold_answers(gold, checkpoint, student)
    probs = student_answers(checkpoint, student, answers.texts)
    move = found.questions[0]
    assert move.scores["student"] == scores_of("choice", probs[:, :3], answers.classes(move.head, np.arange(120)))


def test_bundle_and_teacher_answer_the_same_texts_and_differences_are_paired(files):
    checkpoint, gold, taught, bundle = files
    found = evaluate(checkpoint, gold, EvaluateConfig(teacher=taught, bundle=bundle))
    assert [system.name for system in found.systems] == ["student", "teacher", "bundle"]
    assert [(one.head.name, one.n) for one in found.questions] == [("move", 90), ("asks", 90), ("topics", 90)]
    for one in found.questions:
        main = MAIN[one.head.kind]
        assert one.scores["teacher"][main].value == 1  # the gold labels are its own
        assert one.student_minus["teacher"].value == pytest.approx(one.scores["student"][main].value - 1)
        assert one.student_minus["bundle"].value == pytest.approx(0)
    assert "no text has a gold answer to sure" in notes(found)
    assert "teacher: lacks 30 of the texts" in notes(found)


def test_text_json_and_predictions_say_the_same(files):
    checkpoint, gold, taught, _ = files
    found = evaluate(checkpoint, gold, EvaluateConfig(teacher=taught))
    told = json.loads(as_json(found))
    assert set(told["questions"]) == {"move", "asks", "topics"}
    value = told["questions"]["asks"]["systems"]["student"]["auc"]["value"]
    assert f"{value:.3f}" in as_text(found)
    lines = [json.loads(line) for line in predictions(found).splitlines()]
    assert len(lines) == 120 and lines[0]["probs"]["teacher"] == {}
    assert set(lines[-1]["probs"]["teacher"]) == set(KINDS)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (EvaluateConfig(baselines=("majority",)), "--baseline"),
        (EvaluateConfig(label_map=("a=up",)), "--map"),
        (EvaluateConfig(prior_shift=True), "--prior-shift"),
    ],
)
def test_what_is_for_one_choice_is_refused(files, config, name):
    with pytest.raises(UserError) as caught:
        evaluate(files[0], files[1], config)
    assert str(caught.value) == f"{files[0]}: answers several questions, and {name} is for a student of one choice; leave it out"


def test_a_file_without_an_answer_is_refused(files, tmp_path):
    (tmp_path / "gold.jsonl").write_bytes(write_texts([Text("calls", "1", gold="{}")]))
    with pytest.raises(UserError, match="no gold answer to any of the questions; add some"):
        evaluate(files[0], tmp_path / "gold.jsonl")


def test_a_page_and_its_plots_are_written(files, tmp_path):
    checkpoint, gold, taught, bundle = files
    write_report(checkpoint, gold, tmp_path / "page.html", ReportFiles(bundle=bundle, teacher=taught, plots=tmp_path / "plots"))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "student minus teacher" in page and "no text has a gold answer to sure" in page
    assert (tmp_path / "plots" / "topics-reliability.png").stat().st_size > 1000


def test_a_page_of_several_questions_shows_no_rationales(files, tmp_path):
    with pytest.raises(UserError, match="answers several questions, and --store is for a student of one choice; leave it out"):
        write_report(files[0], files[1], tmp_path / "page.html", ReportFiles(store=tmp_path / "labels.db"))


def test_probabilities_of_one_choice_are_not_made_of_several_questions(files):
    with pytest.raises(UserError) as caught:
        predict(files[0], [Text("calls", "1")])
    assert str(caught.value) == (
        f"{files[0]}: answers move (choice), asks (yesno), topics (tags), sure (degree), and this is for one choice; score each "
        "with potstill evaluate"
    )


def test_a_sweep_is_for_one_question(tmp_path, capsys):
    (tmp_path / "task.toml").write_text(
        'format = 2\nname = "t"\n[[questions]]\nname = "asks"\nkind = "yesno"\nquestion = "Does it ask?"\n', encoding="utf-8"
    )
    assert console(["train", str(tmp_path / "task.toml"), "none.jsonl", str(tmp_path / "student"), "--sweep"]) == 1
    assert "task 't' asks several questions; name one with --question: asks" in capsys.readouterr().err


def test_a_notebook_shows_a_row_for_each_question_and_system(files):
    checkpoint, gold, _, bundle = files
    found = evaluate(checkpoint, gold, EvaluateConfig(bundle=bundle))
    header, *rows = found.cells()
    assert header == ["question", "kind", "system", "n", "score", "value"]
    assert [row[:2] for row in rows] == [[name, kind] for name, kind in KINDS.items() for _ in found.systems]
    assert rows[0][2:] == ["student", "120", "macro f1", found.questions[0].scores["student"]["macro_f1"].as_text()]
    page = found._repr_html_()
    assert page.startswith("<table>") and all(f">{cell}</td>" in page for row in rows for cell in row)
    assert repr(found) == found.as_text() and found.as_text().splitlines()[0].split() == header
