import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
import torch
from playwright.sync_api import expect
from support.browser import recorded_requests
from support.sample_texts import LABELS, a_soft_label, a_task, a_text

from potstill.contract.checkpoint import Student
from potstill.contract.errors import UserError
from potstill.contract.questions.decision import Precision
from potstill.contract.scores.record import Score
from potstill.contract.soft_label import write_soft_labels
from potstill.trainer.config import ReportConfig
from potstill.trainer.data.rows import TrainingRows
from potstill.trainer.report import plots
from potstill.trainer.report.answers import Rationale
from potstill.trainer.report.build import ReportSources, build_report
from potstill.trainer.report.learning_curve import SHARES, learning_plot, nested_part
from potstill.trainer.report.page import report_page
from potstill.trainer.report.plot_style import DARK, LIGHT, inline_svg
from potstill.trainer.students import encoder as students
from potstill.trainer.students.checkpoint import save_checkpoint

pytestmark = pytest.mark.slow

HOSTILE = [
    "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\"> buy",
    "\u202eright to left override, never closed",
    "אני קונה עוד מניות היום ולא מוכר",
    "w" * 3000,
    "a bell \x07 and a shift \x0e",
    "--><!-- {{ 7 * 7 }} </style></pre></title>",
    "買い増し 🚀🚀",
]
SMOOTH = Score(value=0.6, low=0.5, high=0.7, n=100)


@pytest.fixture(scope="module")
def checkpoint(minilm, tmp_path_factory):
    """The real backbone under a head that always answers `up`, so that there are mistakes enough."""
    folder, task = tmp_path_factory.mktemp("report") / "student", a_task()
    rows = [a_soft_label(f"text {i}", [8, 0, 0]) for i in range(4)]
    record = Student(
        format=1, task_name=task.name, labels=LABELS, family="encoder", target=False, max_tokens=32, temperature=1.0,
        thresholds={"up": 0.3}, loss="reg", seed=0, task_digest=task.digest, soft_labels_digest="s" * 64, teacher_digest="t" * 64,
        backbone="<b>minilm</b>", backbone_digest="b" * 64, n_train=2, n_validation=2, scores={},
        validation_losses=[0.9, 0.8, 0.85], kept_epoch=2,
    )  # fmt: skip
    torch.manual_seed(0)
    encoder = students.from_backbone(minilm, LABELS, max_tokens=32, pair=False)
    encoder.model.classifier.bias.data += torch.tensor([1.0, 0.0, 0.0])  # `up`, whatever it reads
    save_checkpoint(folder, encoder, record, task, TrainingRows(rows[:2], rows[2:]))
    return folder


@pytest.fixture(scope="module")
def sources(checkpoint, tmp_path_factory):
    texts = [
        a_text(text, LABELS[1 + i % 2] if i < 30 else "up")
        for i, text in enumerate([*HOSTILE, *(f"text number {i} about puts" for i in range(50))])
    ]
    labels = tmp_path_factory.mktemp("labels") / "teacher.jsonl"
    write_soft_labels(
        labels, [a_soft_label(text, [4, 0, 4] if i % 2 else [8, 0, 0]) for i, text in enumerate(text.text for text in texts)]
    )
    said = {(text.text, None): [Rationale("up", f"because \ud800\x00 <i>{text.text[:40]}")] for text in texts}
    return ReportSources(
        checkpoint, texts, soft_labels=labels, teacher=labels, bundle_probs=np.full((57, 3), 1 / 3), rationales=said
    )


@pytest.fixture(scope="module")
def report(sources):
    return build_report(sources, ReportConfig(patterns={"<u>numbers</u>": r"number \d"}, n_mistakes=60))


@pytest.fixture(scope="module")
def html(report):
    return report_page(report)


class Outline(HTMLParser):
    """Elements, ids and references of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def values(self, wanted):
        return [value for _, name, value in self.attributes if name == wanted]


def test_the_same_report_gives_the_same_bytes(html, sources, report):
    again = build_report(sources, ReportConfig(patterns={"<u>numbers</u>": r"number \d"}, n_mistakes=60))
    assert report_page(again) == html
    assert [(plot.svg, plot.png) for plot in again.plots] == [(plot.svg, plot.png) for plot in report.plots]


def test_hostile_texts_stay_texts(html):
    outline = Outline(html.decode())
    assert outline.tags.count("script") == 1  # the page's own
    assert {"img", "u", "b"}.isdisjoint(outline.tags)
    assert not [name for _, name, _ in outline.attributes if name.startswith("on")]
    assert b"&lt;script&gt;document.title" in html and b"{{ 7 * 7 }}" in html and b"&lt;b&gt;minilm" in html


def test_the_page_holds_nothing_that_a_browser_may_not_show(html):
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]", html.decode())
    assert "a bell \ufffd and a shift \ufffd" in html.decode() and "because \ufffd\ufffd &lt;i&gt;" in html.decode()


def test_the_page_refers_to_nothing_outside_itself(html):
    outline = Outline(html.decode())
    assert all(value.startswith("#") for name in ("href", "src", "srcset", "action") for value in outline.values(name))
    assert not re.search(r"https?:|@import|url\((?!#)", html.decode())
    assert "default-src 'none'" in next(value for tag, name, value in outline.attributes if (tag, name) == ("meta", "content"))


def test_no_id_is_given_twice_and_every_reference_leads_to_one(html):
    outline = Outline(html.decode())
    ids = outline.values("id")
    assert len(ids) == len(set(ids))
    wanted = [value[1:] for value in outline.values("href")]
    wanted += [word for name in ("aria-labelledby", "data-copies") for value in outline.values(name) for word in value.split()]
    wanted += re.findall(r"url\(#([^)]*)\)", html.decode())
    assert set(wanted) <= set(ids)


def test_every_plot_has_a_title_and_a_description_and_takes_its_colours_from_the_page(report):
    for plot in report.plots:
        drawn = ElementTree.fromstring(inline_svg(plot))
        assert drawn.get("role") == "img" and drawn[0].text == plot.title and drawn[1].text == plot.summary
        colours = set(re.findall(r"#[0-9a-f]{6}\b", inline_svg(plot)))
        assert not colours, f"{plot.name} has colours of its own: {colours}"


def test_light_and_dark_know_the_same_roles_and_no_two_roles_share_a_light_value():
    assert LIGHT.keys() == DARK.keys() and len(set(LIGHT.values())) == len(LIGHT)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("role", [role for role in LIGHT if role not in ("line", "surface")])
def test_every_colour_that_says_something_is_told_from_the_ground(palette, role):
    bright, dark = sorted((luminance(palette[role]), luminance(palette["surface"])), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, level AA for words


def test_many_labels_with_odd_names_can_be_drawn():
    names = [f"$x_{i}$ <é> 買い {'long ' * 9}" for i in range(77)]
    counts = np.arange(77 * 77).reshape(77, 77)
    plot = plots.confusion_plot(counts, names)
    assert "Shown are the 16 labels" in plot.caption
    ElementTree.fromstring(inline_svg(plot))
    assert b"$x_76$" in plot.svg  # and not the formula


@pytest.mark.parametrize("plot", [learning_plot([(40, SMOOTH), (400, SMOOTH)]), plots.losses_plot([0.9, 0.8, 0.85], 2)])
def test_curves_of_training_are_drawn(plot):
    assert ElementTree.fromstring(inline_svg(plot)).get("viewBox")


ROWS = [a_soft_label(f"text {i}", [8, 0, 0]) for i in range(97)]


def test_a_smaller_part_lies_within_every_larger_one_in_file_order():
    parts = [nested_part(ROWS, share) for share in SHARES]
    assert [len(part) for part in parts] == [10, 19, 48, 97]
    for small, large in pairwise(parts):
        assert [row for row in large if row in small] == small
    assert parts[-1] == ROWS


def test_the_order_of_the_file_does_not_choose_the_part():
    assert {row.id for row in nested_part(ROWS[::-1], 0.2)} == {row.id for row in nested_part(ROWS, 0.2)}


def test_a_part_holds_at_least_one_row():
    assert len(nested_part(ROWS[:2], 0.1)) == 1


def test_a_report_shows_every_plot_that_its_sources_allow(report):
    names = {plot.name for plot in report.plots}
    assert names == {"confusion", "precision-recall", "reliability", "agreement", "validation-loss"}


def test_a_report_without_the_teacher_says_what_is_missing(sources):
    bare = build_report(replace(sources, soft_labels=None, teacher=None, bundle_probs=None, rationales=None), ReportConfig())
    assert [scored.who for scored in bare.scored] == ["student"] and len(bare.notes) == 3
    assert {part.kind for part in bare.slices} == {"Length", "Knowledge term"}
    assert report_page(bare)


def test_the_page_says_what_the_thresholds_promise(report):
    promise = Precision(wanted=0.9, n=70, source="gold", confidence=0.95)
    promised = replace(report, student=msgspec.structs.replace(report.student, precision=promise))
    said = "The thresholds' precision 0.9 holds for every label on texts of this kind, with 95% confidence (70 texts)"
    assert said in report_page(promised).decode() and "The thresholds" not in report_page(report).decode()


def test_thresholds_decide_what_is_answered(report):
    by_label = {row.label: row for row in report.labels}
    assert by_label["up"].threshold == 0.3 and by_label["down"].threshold is None
    assert sum(row.n_gold for row in report.labels) == report.n


@pytest.mark.parametrize(
    ("changes", "config", "message"),
    [
        ({"soft_labels": None}, {"learning_curve": True}, r"^a learning curve trains on the soft labels; name their file with"),
        ({}, {"patterns": {"x": "["}}, r"^slice 'x': '\[' is not a regular expression"),
        ({"texts": [a_text("something else")]}, {}, r"teacher.jsonl: labels none of the 1 gold texts; give the file"),
    ],
)
def test_what_makes_no_report_is_refused_in_one_line(sources, changes, config, message):
    with pytest.raises(UserError, match=message):
        build_report(replace(sources, **changes), ReportConfig(**config))


def test_soft_labels_of_another_task_are_refused(sources, tmp_path):
    write_soft_labels(tmp_path / "other.jsonl", [a_soft_label("a", [8, 0, 0], task=a_task(name="other"))])
    with pytest.raises(UserError, match=r"other.jsonl: made for another version of task 'moves' \(digest [0-9a-f]{12}…"):
        build_report(replace(sources, teacher=tmp_path / "other.jsonl"), ReportConfig())


@pytest.fixture
def report_file(html, tmp_path):
    path = tmp_path / "report.html"
    path.write_bytes(html)
    return path


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_in_a_real_browser_nothing_overflows_runs_or_is_fetched(report_file, new_page, width, dark):
    page = new_page(width=width, dark=dark)
    asked = recorded_requests(page)
    page.goto(report_file.as_uri())
    page.screenshot(path=report_file.with_suffix(".png"), full_page=True)  # to look at
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = "all => all.filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert page.locator("body *").evaluate_all(beyond) == []
    expect(page).to_have_title("moves: report of a student")
    expect(page.locator("html")).to_have_css("background-color", "rgb(23, 27, 36)" if dark else "rgb(255, 255, 255)")
    assert asked == [report_file.as_uri()]


def test_a_real_browser_prints_it(report_file, new_page):
    page = new_page(width=1280, dark=True)
    page.goto(report_file.as_uri())
    assert page.pdf(format="A4").startswith(b"%PDF-")
