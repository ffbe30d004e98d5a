import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect
from support.toy_questions import a_questionnaire

from potstill.contract.checkpoint import Student
from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.head import Head, flat_labels
from potstill.contract.questions.question import Question
from potstill.contract.task import Label
from potstill.contract.texts import Text
from potstill.trainer.evaluation.questions import AnsweringSystem, GoldAnswers, compare_questions
from potstill.trainer.report.questions import N_SHOWN, build_questions_report, questions_report_page

pytestmark = pytest.mark.slow

MANY = [f"intent {i}" for i in range(40)]
HOSTILE = "<img src=x onerror=\"document.title='taken'\">"


def a_report(n=60):
    """A report on random answers to the toy questions and one of many labels, one of them hostile."""
    names = [*MANY[:-1], HOSTILE]
    many = Question(name="intent", kind="choice", question="Which <b>intent</b>?", labels=[Label(name=name) for name in names])
    task = a_questionnaire(questions=[*a_questionnaire().questions, many], examples=[])
    heads = [
        Head(name=one.name, kind=one.kind, labels=one.label_names, values=one.level_values if one.kind == "degree" else None)
        for one in task.questions
    ]
    rng = np.random.default_rng(0)
    parts = []
    for head in heads:
        drawn = rng.random((n, len(head.labels)))
        parts.append(drawn / drawn.sum(axis=1, keepdims=True) if head.is_softmax else drawn)
    golds = [
        {
            "move": str(rng.choice(["up", "flat", "down"])), "asks": bool(rng.random() < 0.5), "topics": ["news"],
            "sure": str(rng.choice(["low", "middle", "high"])), "intent": names[i % len(names)],
        }
        for i in range(n)
    ]  # fmt: skip
    texts = [Text(f"text {i}", str(i), gold=json.dumps(gold)) for i, gold in enumerate(golds)]
    answers = [parse_gold(Path("gold.jsonl"), text.id, task.questions, text.gold) for text in texts]
    systems = [AnsweringSystem(name, heads, np.concatenate(parts, axis=1)) for name in ("student", "teacher")]
    student = Student(
        format=2, task_name=HOSTILE, labels=flat_labels(heads), family="encoder", target=False, max_tokens=32, temperature=1.0,
        thresholds=None, loss="soft_ce", seed=0, task_digest="d", soft_labels_digest="s", teacher_digest="t", backbone="minilm",
        backbone_digest="b", n_train=2, n_validation=2, scores={}, validation_losses=[0.9, 0.8], kept_epoch=2, heads=heads,
    )  # fmt: skip
    found = compare_questions(systems, GoldAnswers(Path("gold.jsonl"), task, texts, answers))
    return build_questions_report(found, student, task)


@pytest.fixture(scope="module")
def report():
    return a_report()


@pytest.fixture(scope="module")
def html(report):
    return questions_report_page(report).decode()


def test_every_question_has_the_metrics_of_its_kind_and_its_plots(report, html):
    found = {section.name: section for section in report.sections}
    assert list(found) == ["move", "asks", "topics", "sure", "intent"]
    assert "AUC" in found["asks"].metrics and "quadratic kappa" in found["sure"].metrics
    assert [plot.name for plot in found["topics"].plots] == ["topics-reliability"]
    assert [plot.name for plot in found["sure"].plots] == ["sure-confusion", "sure-reliability"]
    for name in ("move", "topics", "average precision", "no significant difference"):
        assert name in html


def test_no_id_of_the_page_occurs_twice(html):
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_many_labels_show_the_five_with_the_most_texts_and_fold_the_others(report, html):
    labels = report.sections[-1].labels
    assert [row.n_gold for row in labels] == sorted((row.n_gold for row in labels), reverse=True)
    assert html.count("<details>") == 1 and f"{len(MANY) - N_SHOWN} other labels" in html


def test_the_same_report_gives_the_same_bytes(html):
    assert questions_report_page(a_report()).decode() == html


def test_names_are_text_and_never_markup(html):
    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.seen = []

        def handle_starttag(self, tag, attributes):
            self.seen.append((tag, dict(attributes)))

    parser = Tags()
    parser.feed(html)
    assert not [tag for tag, _ in parser.seen if tag in ("img", "b")]
    assert [tag for tag, _ in parser.seen].count("script") == 1


def test_the_search_box_finds_a_folded_label(browser, html, tmp_path):
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    page = browser.new_page()
    try:
        page.goto((tmp_path / "report.html").as_uri())
        section = page.locator("#labels-intent")
        expect(section.locator("tr[data-label]:visible")).to_have_count(N_SHOWN)
        page.get_by_label("Find a label").fill("INTENT 3")
        wanted = [name for name in MANY[:-1] if "intent 3" in name]
        expect(section.locator("tr[data-label]:visible")).to_have_count(len(wanted))
        page.get_by_label("Find a label").fill("")
        expect(section.locator("tr[data-label]:visible")).to_have_count(N_SHOWN)
        assert page.title() != "taken"
    finally:
        page.close()
