"""The pages of a report on each stage, and the map of the texts: what they say, and that a browser can use them."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect
from support.browser import recorded_requests
from support.sample_texts import LABELS, a_soft_label, a_text

from potstill.contract.checkpoint import Student, UsedGold
from potstill.contract.scores import metrics
from potstill.trainer.report.build import LabelScores, Report, SystemScores
from potstill.trainer.report.page import report_page
from potstill.trainer.report.stages import (
    CostLine,
    ExportStage,
    FormLine,
    LabellingStage,
    MethodLine,
    Stages,
    label_examples,
    training_stage,
)
from potstill.trainer.report.text_map import MappedTexts, placed, text_map

pytestmark = pytest.mark.slow

HOSTILE = "<script>document.title = 'taken'</script>\"'><img src=x onerror=\"document.title='taken'\"> puts \x07"
LABEL_SCORES = [LabelScores(name, 1, 1, 1.0, 1.0, None) for name in LABELS]
REST = {"task_name": "moves", "question": "Where?", "slices": [], "mistakes": [], "n_wrong": 0, "terms": [], "plots": []}


def a_student(**changes):
    values = {
        "format": 1, "task_name": "moves", "labels": LABELS, "family": "static", "target": False, "max_tokens": 32, "temperature": 1.0,
        "thresholds": None, "loss": "reg", "seed": 0, "task_digest": "d" * 64, "soft_labels_digest": "s" * 64, "teacher_digest": "t" * 64,
        "backbone": "b", "backbone_digest": "b" * 64, "n_train": 2, "n_validation": 2, "scores": {},
    }  # fmt: skip
    return Student(**values | changes)


def a_map(n=60):
    """Two groups of texts far from each other, a fifth of them gold, the first one hostile."""
    rng = np.random.default_rng(0)
    texts = [a_text(HOSTILE if i == 0 else f"text {i}", LABELS[i % 2] if i % 5 == 0 else None) for i in range(n)]
    centres = np.where(np.arange(n)[:, None] % 2, 5.0, -5.0)
    vectors = (rng.normal(0, 0.3, (n, 8)) + centres).astype(np.float32)
    answers = [LABELS[i % 2] if i % 7 else "down" for i in range(n)]
    teacher = [LABELS[i % 2] if i % 3 else None for i in range(n)]
    return text_map(MappedTexts(texts, answers, [0.9] * n, vectors, teacher, [None if one is None else 0.625 for one in teacher]))


def all_stages():
    rows = [a_soft_label(HOSTILE, [5, 3, 0]), *(a_soft_label(f"text {i}", [8 - i % 4, i % 4, 0]) for i in range(8))]
    scores = metrics.score(metrics.accuracy, np.eye(3), np.arange(3))
    labelling = LabellingStage(
        f"Question: {HOSTILE}\nAnswer:", "Variant 1 of 8.", [CostLine("small<b>", "cot", 9, 8.0, 41.4, 30.2)],
        [MethodLine("votes", {"up": 0.9, "flat": 0.1, "down": 0.0}, scores), MethodLine("calibrated", dict.fromkeys(LABELS, 1 / 3), None)],
        dict.fromkeys(LABELS, 1 / 3), {"0.6": 1, "1.0": 8}, label_examples(rows, LABELS), 412.0,
    )  # fmt: skip
    training = training_stage(rows, np.tile([[0.5, 0.4, 0.1]], (9, 1)), LABELS, None)
    export = ExportStage([FormLine("float", 9.1, 90.5, 0.6, 1.0, 0, 512, "passed", False), FormLine("static_int8", 3.2, 23.0, 0.59, 0.982, 9, 512, "passed", True)], "a CPU", 22.4)  # fmt: skip
    return Stages(labelling, training, export, a_map())


def a_report(stages, **changes):
    scores = metrics.scores(np.eye(3)[[0, 1, 1]], np.arange(3))
    return Report(
        student=a_student(**changes),
        n=3,
        scored=[SystemScores("student", scores)],
        differences=[],
        notes=[],
        stages=stages,
        labels=LABEL_SCORES,
        **REST,
    )


@pytest.fixture(scope="module")
def stages():
    return all_stages()


@pytest.fixture(scope="module")
def page_file(stages, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(report_page(a_report(stages)))
    return path


def test_without_a_run_there_are_no_such_sections():
    html = report_page(a_report(Stages())).decode()
    assert not re.search(r'id="(labelling|training|export|map)"', html) and 'getElementById("dots")' not in html


def test_each_stage_says_what_it_did_what_it_cost_and_what_changed(page_file):
    html = page_file.read_text()
    for part in (
        "It took 7 min.",
        "41",
        "small&lt;b&gt;",
        "static_int8 (shipped)",
        "98.2 %",
        "9 of 512",
        "on 9 held-out texts both",
    ):
        assert part in html, part


def test_gold_that_was_trained_on_is_said(stages):
    used = UsedGold(how="join", file_digest="f" * 64, n_changed=12, n_new=3, n_held_out=2)
    html = report_page(a_report(stages, used_gold=used)).decode()
    assert html.count("12 training texts have a label that a person gave, beside the teacher&#39;s") == 2


def test_examples_are_the_surest_and_the_most_contested_of_a_label():
    rows = [a_soft_label(f"t{i}", [8 - i, i, 0]) for i in range(4)]
    rows = [type(row)(**{**{f: getattr(row, f) for f in row.__struct_fields__}, "entropy": float(i)}) for i, row in enumerate(rows)]
    up, flat, _ = label_examples(rows, LABELS)
    assert ([row.text for row in up.surest], [row.text for row in up.contested]) == (["t0", "t1"], ["t3", "t2"])
    assert (up.n, flat.n, flat.surest) == (4, 0, [])


def test_similar_texts_lie_close_together(stages):
    points = stages.text_map.points
    places = np.array([(point.x, point.y) for point in points])
    assert places.min() >= 0 and places.max() <= 100
    near = [np.argsort(((places - place) ** 2).sum(axis=1))[1] for place in places]
    assert np.mean([i % 2 == j % 2 for i, j in enumerate(near)]) > 0.95


def test_the_same_texts_give_the_same_map(stages):
    assert a_map().points == stages.text_map.points


def test_equal_texts_and_few_texts_make_a_map_too():
    assert (placed(np.ones((12, 4), np.float32)) == 50).all()
    assert placed(np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)).shape == (10, 2)


def test_wrong_is_against_gold_and_without_it_against_the_teacher(stages):
    for i, point in enumerate(stages.text_map.points):
        right = LABELS[i % 2] if i % 5 == 0 or i % 3 else None
        assert point.wrong == (None if right is None else point.answer != right)
        assert point.agreement_class == (3 if i % 3 else None)


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_in_a_real_browser_nothing_overflows_runs_or_is_fetched(page_file, new_page, width, dark):
    page = new_page(width=width, dark=dark)
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    asked = recorded_requests(page)
    page.goto(page_file.as_uri())
    assert asked == [page_file.as_uri()] and problems == []
    assert page.title() == "moves: report of a student"
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_map_is_coloured_pointed_at_and_zoomed(page_file, new_page):
    page = new_page()
    page.goto(page_file.as_uri())
    dots = page.locator("#dots")
    dots.scroll_into_view_if_needed()
    fills = "() => [...new Set([...document.querySelectorAll('#dots circle')].map(one => getComputedStyle(one).fill))].length"
    assert page.evaluate(fills) == 3
    page.get_by_label("error", exact=True).check()
    assert page.evaluate(fills) == 3  # alike, otherwise, by nobody else
    expect(page.get_by_text("answered otherwise than the gold label")).to_be_visible()
    expect(page.locator(".legend[data-for=label]")).to_be_hidden()
    page.locator("#dots circle").first.hover(force=True)
    expect(page.locator("#pointed blockquote")).to_contain_text("<script>document.title = 'taken'</script>")
    expect(page.locator("#pointed .muted")).to_contain_text("gold up, student down at 90 %")
    page.get_by_role("button", name="Zoom in").click()
    assert dots.get_attribute("viewBox") == "18.75 18.75 62.5 62.5"
    dots.focus()
    page.keyboard.press("ArrowLeft")
    assert float(dots.get_attribute("viewBox").split()[0]) < 18.75
    page.get_by_role("button", name="All").click()
    assert dots.get_attribute("viewBox") == "0 0 100 100"
