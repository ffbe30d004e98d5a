"""A person explains a term, the real engine is asked again about the texts that hold it, and the page shows what moved."""

import shutil
import subprocess
import time

import msgspec
import pytest
from playwright.sync_api import expect
from support.review_pages import ReviewProcess
from support.small_task import SMALL_TASK

from potstill.contract.questions.questionnaire import load_any_task
from potstill.contract.texts import Text, write_texts
from potstill.labeler.store.database import LabelStore
from potstill.labeler.store.integrity import check_store

pytestmark = pytest.mark.slow

LABEL = ["label", "task.toml", "texts.jsonl", "out", "--mode", "direct", "--paths", "2", "--threads", "1", "--teacher"]
TEXTS = [
    Text(f"number {i} " + ("has puts" if i % 3 == 0 else "has none"), f"t{i}", gold="up" if i == 0 else None) for i in range(12)
]


@pytest.fixture(scope="module")
def once(tmp_path_factory, tiny_models, console):
    """A folder with a task, and texts that a tiny model has labelled."""
    folder = tmp_path_factory.mktemp("labelled")
    words = {'name = "up"': 'name = "up"\nwords = ["positive"]', 'name = "down"': 'name = "down"\nwords = ["negative"]'}
    task = "# ours\n" + SMALL_TASK
    for name, with_words in words.items():
        task = task.replace(name, with_words)
    (folder / "task.toml").write_text(task)
    (folder / "texts.jsonl").write_bytes(write_texts(TEXTS))
    subprocess.run([*console, *LABEL, str(tiny_models["dense"])], cwd=folder, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture
def labelled(once, tmp_path):
    """A copy of it, to change."""
    return shutil.copytree(once, tmp_path / "labelled")


def paths_of(store, run):
    with LabelStore.read(store) as opened:
        return {(path.text_id, path.path): path.word_logprobs for path in opened.paths(opened.find_run(run))}


def test_a_term_is_explained_and_only_the_texts_that_hold_it_are_asked_again(labelled, tiny_models, new_page):
    store = labelled / "out" / "labels.db"
    with ReviewProcess(store, labelled / "task.toml", "--teacher", tiny_models["dense"]) as server:
        page = new_page()
        page.goto(server.addresses["ann"])
        for _ in range(4):
            before = page.locator("input[name=entry]").get_attribute("value")
            page.keyboard.press("1")
            expect(page.locator(f"input[name=entry][value='{before}']")).to_have_count(0)
        page.get_by_role("link", name="Steer").click()
        page.get_by_label("Term, as it stands").fill("puts")
        page.get_by_label("What it means").fill("a bet on a fall")
        page.get_by_role("button", name="See what changes").click()
        expect(page.locator("pre")).to_contain_text('term = "puts"')
        expect(page.get_by_text("The prompts of 4 texts would change")).to_be_visible()
        page.get_by_role("button", name="Write it").click()
        page.get_by_role("button", name="Ask about 4 texts").click()
        expect(page.get_by_text("The teacher has answered")).to_be_visible()
        page.get_by_role("link", name="Show what moved").click()
        expect(page.get_by_text("4 of 12 texts were asked again")).to_be_visible()
        expect(page.get_by_text("right on gold")).to_be_visible()
    text = (labelled / "task.toml").read_text()
    assert text.startswith("# ours") and load_any_task(labelled / "task.toml").knowledge[0].meaning == "a bet on a fall"
    old, new = paths_of(store, 1), paths_of(store, 2)
    assert old.keys() == new.keys() and len(new) == 24
    changed = {text_id for (text_id, number), words in new.items() if words != old[text_id, number]}
    assert changed and changed <= {"t0", "t3", "t6", "t9"}
    with LabelStore.read(store) as opened:
        assert check_store(opened).faults == []


def test_labelling_with_the_changed_task_goes_on_with_what_was_asked_again(labelled, tiny_models, console):
    store = labelled / "out" / "labels.db"
    with ReviewProcess(store, labelled / "task.toml", "--teacher", tiny_models["dense"]) as server:
        ann = server.visitor()
        form = {"what": "term", "term": "puts", "meaning": "a bet"}
        before = ann.post("/steer/preview", form)[2].partition('name="before" value="')[2].partition('"')[0]
        assert ann.post("/steer/write", form | {"before": "x"})[0] == 409
        assert ann.post("/steer/write", form | {"before": before})[0] == 303
        assert ann.post("/steer/ask", {})[0] == 303
        while "is being asked" in ann.get("/steer"):
            pass
        assert "4 of 12 texts were asked again" in ann.get("/steer")
    done = subprocess.run([*console, *LABEL, str(tiny_models["dense"])], cwd=labelled, check=True, capture_output=True, timeout=120)
    assert b"24 paths of 12 texts are stored; 0 of them drawn now" in done.stdout


def test_another_teacher_is_refused_and_the_page_says_why(labelled, tiny_models):
    store = labelled / "out" / "labels.db"
    with ReviewProcess(store, labelled / "task.toml", "--teacher", tiny_models["recurrent"]) as server:
        ann = server.visitor()
        form = {"what": "term", "term": "puts", "meaning": "a bet"}
        before = ann.post("/steer/preview", form)[2].partition('name="before" value="')[2].partition('"')[0]
        ann.post("/steer/write", form | {"before": before})
        ann.post("/steer/ask", {})
        while "is being asked" in (page := ann.get("/steer")):
            pass
        assert "was labelled with another teacher" in page
    with LabelStore.read(store) as opened:
        assert len(opened.runs()) == 1


def steered(server, form):
    """Write an addition and ask again, as a person; returns the page that shows what moved."""
    ann = server.visitor()
    ann.label(form.pop("own"), path="/label?id=t1")
    before = ann.post("/steer/preview", form)[2].partition('name="before" value="')[2].partition('"')[0]
    assert ann.post("/steer/write", form | {"before": before})[0] == 303
    assert ann.post("/steer/ask", {})[0] == 303
    while "is being asked" in (page := ann.get("/steer")):
        time.sleep(0.05)
    return page


def test_a_worked_example_changes_all_prompts_and_all_are_asked_again(labelled, tiny_models):
    with ReviewProcess(labelled / "out" / "labels.db", labelled / "task.toml", "--teacher", tiny_models["dense"]) as server:
        page = steered(server, {"own": "down", "what": "example", "id": "t1", "rationale.": "none is none"})
    assert "12 of 12 texts were asked again" in page
    example = load_any_task(labelled / "task.toml").examples[-1]
    assert (example.text, example.label, example.rationale) == (TEXTS[1].text, "down", "none is none")


TWO = """
format = 2
name = "two"
questions = [
    {name = "move", question = "Up or down?", labels = [{name = "up", words = ["positive"]}, {name = "down", words = ["negative"]}]},
    {name = "topics", kind = "tags", question = "Is it about {tag}?", labels = [{name = "puts"}]},
]
"""


def test_of_several_questions_only_the_changed_prompts_are_asked_again_too(tmp_path, tiny_models, console):
    (tmp_path / "task.toml").write_text(TWO)
    texts = [msgspec.structs.replace(text, gold=None) for text in TEXTS[:6]]
    (tmp_path / "texts.jsonl").write_bytes(write_texts(texts))
    subprocess.run([*console, *LABEL, str(tiny_models["dense"])], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    store = tmp_path / "out" / "labels.db"
    with ReviewProcess(store, tmp_path / "task.toml", "--teacher", tiny_models["dense"]) as server:
        own = {"answer.move": "down", "answer.topics": "puts"}
        page = steered(server, {"own": own, "what": "term", "term": "puts", "meaning": "a bet"})
    assert "2 of 6 texts were asked again" in page
    with LabelStore.read(store) as opened:
        runs = [run.settings.question for run in opened.runs()]
    assert runs == ["move", "topics/puts"] * 2
    for old, new in ((1, 3), (2, 4)):
        before, after = paths_of(store, old), paths_of(store, new)
        assert before.keys() == after.keys()
        assert {text_id for (text_id, number), words in after.items() if words != before[text_id, number]} <= {"t0", "t3"}
