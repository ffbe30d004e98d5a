"""The report on a student of several questions has every stage of each question, and a map of the texts for each."""

import json

import msgspec
import pytest
from playwright.sync_api import expect
from support.review_pages import write_store
from support.tiny_backbone import VOCABULARY, write_backbone
from support.tiny_bundle import write_bundle
from support.toy_questions import EVERY_KIND, WORDS, answer_rows, answered_gold
from support.toy_task import quick, write_gold

from potstill.commands.main import run as console
from potstill.contract.checkpoint import read_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import digest
from potstill.contract.project import StageRecord
from potstill.contract.questions.questionnaire import load_any_task
from potstill.contract.questions.soft_answers import read_soft_answers, write_soft_answers
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.several import asked_together, shared_variants, variants_digest
from potstill.labeler.store.database import LabelStore
from potstill.trainer.evaluation.questions import read_gold_answers
from potstill.trainer.run import train
from potstill.workflows.overview.question_stages import question_maps, questions_folder, sent_prompt_of

pytestmark = pytest.mark.slow
FORM = {
    "variant": "float",
    "ms_p50": 2.0,
    "bytes": 5_000_000,
    "macro_f1": 0.5,
    "agreement": 1.0,
    "flips": 0,
    "n": 60,
    "problem": "",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Task, run folder with store, soft labels and records, trained student, gold texts."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "task.toml").write_text(EVERY_KIND)
    task = load_any_task(folder / "task.toml")
    rows = answer_rows(120, task, left_out=["asks"])
    (folder / "out").mkdir()
    gold = [Text(row.text, row.id, gold=text.gold) for row, text in zip(rows, answered_gold(20), strict=False)]
    write_store(
        folder / "out" / "labels.db", folder / "task.toml", [*gold, *(Text(row.text, row.id) for row in rows[20:])], n_paths=2
    )
    write_soft_answers(folder / "out" / "soft_labels.parquet", rows)
    records = {name: StageRecord("i", {}, seconds) for name, seconds in (("label", 60.0), ("train", 5.0), ("export", 7.0))}
    (folder / "out" / "state.json").write_bytes(msgspec.json.encode(records))
    write_backbone(folder / "backbone", [*VOCABULARY, *WORDS])
    train(task, folder / "out" / "soft_labels.parquet", folder / "student", quick(folder / "backbone", family="static", epochs=1))
    write_gold(folder / "gold.jsonl", answered_gold(40, seed=5))
    return folder


@pytest.fixture(scope="module")
def parts(place):
    """(task, student, soft labels)."""
    task = load_any_task(place / "task.toml")
    return task, read_student(place / "student"), read_soft_answers(place / "out" / "soft_labels.parquet", task.questions)


def test_every_question_has_its_cost_methods_agreement_and_examples(place, parts):
    task, student, rows = parts
    found = questions_folder(place / "out", place / "student", student, task, rows, None)
    assert list(found.stages) == ["move", "asks", "topics", "sure"] and dict(found.seconds) == {"label": 60.0, "train": 5.0}
    move, topics = found.stages["move"].labelling, found.stages["topics"].labelling
    assert [(line.teacher, line.n_texts, line.paths_per_text) for line in move.cost] == [("table", 120, 2.0)]
    assert [line.mode for line in topics.cost] == ["cot, news", "cot, chart", "cot, people"]
    assert sum(move.agreement.values()) == 120 and sum(topics.agreement.values()) == 360
    calibrated = next(line for line in topics.methods if line.name == "calibrated")
    assert list(calibrated.shares) == ["news", "chart", "people"] == topics.columns
    assert [one.label for one in move.examples] == ["up", "flat", "down"] and sum(one.n for one in move.examples) == 120
    assert [one.label for one in topics.examples] == ["news", "chart", "people"]
    assert sum(move.gold_shares.values()) == pytest.approx(1) and max(topics.gold_shares.values()) < 1


def test_student_and_teacher_are_compared_on_the_texts_that_answer_a_question(place, parts):
    task, student, rows = parts
    found = questions_folder(place / "out", place / "student", student, task, rows, None).stages
    held_out = read_soft_answers(place / "student" / "validation.jsonl", task.questions)
    n = {name: sum(row.answers[name] is not None for row in held_out) for name in found}
    assert {name: stages.training.n for name, stages in found.items()} == n and n["asks"] < n["move"]
    for name in ("move", "asks", "sure"):
        lines = found[name].training.labels
        assert sum(line.n_teacher for line in lines) == sum(line.n_student for line in lines) == n[name]
        assert found[name].training.agreement.value == pytest.approx(sum(line.n_both for line in lines) / n[name])
    tags = found["topics"].training
    n_both, n_each = (
        sum(counts) for counts in ([one.n_both for one in tags.labels], [one.n_teacher + one.n_student for one in tags.labels])
    )
    assert tags.agreement.value == pytest.approx(2 * n_both / n_each)


def test_the_prompt_of_questions_that_share_one_is_shown_where_it_is_the_one_that_was_sent(place, parts):
    task, _, _ = parts
    forks = asked_together(task)[0]
    made = shared_variants(task, forks, LabelConfig(mode="direct", n_variants=2, n_paths=2))
    with LabelStore.read(place / "out" / "labels.db") as store:
        settings = next(run.settings for run in store.runs() if run.settings.question == "asks")
    sent = msgspec.structs.replace(settings, mode="direct", n_variants=2, prompt_digest=variants_digest(made))
    sent = msgspec.structs.replace(sent, temperature=LabelConfig.temperature, max_rationale_tokens=LabelConfig.max_rationale_tokens)
    prompt, note = sent_prompt_of(task, task.find_ask("asks"), sent, Text("the price", "a"))
    assert prompt == made[0].prefix + "Text: the price\nAsks:" and "it is shared by 4 questions" in note
    for changes in ({"prompt_digest": "other"}, {"template": "chat"}):
        prompt, note = sent_prompt_of(task, task.find_ask("asks"), msgspec.structs.replace(sent, **changes), Text("the price", "a"))
        assert prompt == "" and note.endswith("potstill task show TASK TEXT --teacher TEACHER prints it.")


def test_what_each_form_changed_is_told_for_each_question(place, parts, tmp_path):
    task, student, rows = parts
    bundle = write_bundle(tmp_path / "bundle")
    of_each = [{"name": head.name, "score": 0.7, "agreement": 0.9, "flips": i, "n": 60} for i, head in enumerate(student.heads)]
    forms = [{**FORM, "questions": of_each}, {**FORM, "variant": "static_int8", "questions": of_each}]
    (bundle / "quality.json").write_text(json.dumps({"cpu": "a CPU", "forms": forms}))
    found = questions_folder(place / "out", place / "student", student, task, rows, bundle)
    assert [form.variant for form in found.export.forms] == ["float", "static_int8"] and found.export.seconds == 7.0
    assert [[form.flips for form in stages.export.forms] for stages in found.stages.values()] == [[0, 0], [1, 1], [2, 2], [3, 3]]
    del forms[1]["questions"][0]["score"]
    (bundle / "quality.json").write_text(json.dumps({"forms": forms}))
    with pytest.raises(FormatError, match=r"quality.json: forms: lacks 'score'; export the bundle again"):
        questions_folder(place / "out", place / "student", student, task, rows, bundle)


def test_a_store_of_another_task_is_refused(place, parts, tmp_path):
    task, student, rows = parts
    (tmp_path / "task.toml").write_text(EVERY_KIND.replace("Where does it go?", "Where to?"))
    write_store(tmp_path / "labels.db", tmp_path / "task.toml", [Text("a", "a")])
    with pytest.raises(UserError, match=r"labels.db: holds no run of the student's task; name the folder that it was labelled in"):
        questions_folder(tmp_path, place / "student", student, task, rows, None)


def test_all_maps_have_the_same_texts_at_the_same_places(place, parts):
    _, student, rows = parts
    student = msgspec.structs.replace(student, backbone=str(place / "backbone"))
    gold = read_gold_answers(place / "gold.jsonl", place / "student", student)
    maps, note = question_maps(place / "student", student, gold.texts, gold.answers, rows, most=65)
    assert note == "" and [name for name, _ in maps] == ["move", "asks", "topics", "sure"]
    places = [[(point.x, point.y, point.text.text) for point in drawn.points] for _, drawn in maps]
    assert len(places[0]) == 65 and all(one == places[0] for one in places) and maps[0][1].n_gold == 40
    topics = dict(maps)["topics"].points
    for point, given in zip(topics[:40], gold.answers, strict=True):
        assert point.text.gold == (" + ".join(given["topics"]) or "none") == point.label and point.wrong == (
            point.answer != point.label
        )
    asks = dict(maps)["asks"].points
    assert any(point.agreement is None and point.wrong is None for point in asks[40:])  # texts that the teacher was not asked about
    assert question_maps(place / "student", student, gold.texts, gold.answers, rows, most=5) == ([], "")


@pytest.fixture(scope="module")
def page(place):
    """The page that the command writes, of a student whose backbone is at hand."""
    path = place / "student" / "student.json"
    student = json.loads(path.read_text())
    path.write_text(
        json.dumps(
            {
                **student,
                "backbone": str(place / "backbone"),
                "backbone_digest": digest.of_path(place / "backbone" / "model.safetensors"),
            }
        )
    )
    out = place / "report.html"
    command = ["report", str(place / "student"), str(place / "gold.jsonl"), "--run", str(place / "out"), "--out", str(out)]
    assert console(command) == 0
    return out


def test_the_command_writes_all_of_it_into_one_page(page):
    html = page.read_text()
    for name in ("move", "asks", "topics", "sure"):
        assert f'id="labelling-{name}"' in html and f'id="training-{name}"' in html
    assert 'id="map"' in html and "Labelling took 60 s." in html


@pytest.mark.parametrize(("width", "dark"), [(1000, False), (360, True)])
def test_the_map_is_coloured_by_the_chosen_question(page, new_page, width, dark):
    shown = new_page(width=width, dark=dark)
    problems = []
    shown.on("pageerror", lambda error: problems.append(str(error)))
    shown.goto(page.as_uri())
    circle = shown.locator("#dots circle").first
    expect(shown.locator("#map-question")).to_be_visible()
    for place_of, name in enumerate(["move", "asks", "topics", "sure"]):
        shown.locator("#map-question").select_option(name)
        assert circle.get_attribute("class") == circle.get_attribute(f"data-class{place_of}")
        expect(shown.locator(".legend[data-for=label]:visible")).to_have_count(1)
    shown.locator("#topics").scroll_into_view_if_needed()
    shown.locator("#labelling-topics > summary").click()
    expect(shown.locator("#labelling-topics table").first).to_be_visible()
    shown.get_by_role("radio", name="error").check()
    assert shown.locator("#dots").get_attribute("data-by") == "error"
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth") and problems == []
