"""A second teacher is asked about what the first one is not certain of; soft labels follow from both, and say so."""

import json
import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from support.small_task import SMALL_TASK

from potstill.commands.main import run as console
from potstill.contract.errors import FormatError, StoppedError, UserError
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.task import load_task
from potstill.labeler.aggregation.path_table import read_paths
from potstill.labeler.aggregation.soft_labels import calibrated, teacher_weights
from potstill.labeler.aggregation.summary import summary
from potstill.labeler.aggregation.summary_text import as_text
from potstill.labeler.config import LabelConfig, UncertainRule
from potstill.labeler.run.second_teacher import uncertain_texts
from potstill.labeler.store.database import LabelStore
from potstill.labeler.store.integrity import check_store
from potstill.labeler.teacher import Identity
from potstill.labeler.teachers.config import TeacherConfig, ThenConfig, ThenSettings
from potstill.trainer.data.rows import read_rows
from potstill.workflows import labelling, pipeline
from potstill.workflows.labelling import label
from potstill.workflows.teacher import second_teacher

pytestmark = pytest.mark.slow

N = 40
DIRECT = LabelConfig(mode="direct", n_paths=2)
THEN = ThenConfig(TeacherConfig("large"), UncertainRule(0.25), "direct", 3)


def number(prompt):
    """The number in the text that the prompt asks about: text 0 is clearly `up`, the last one clearly `down`, those between less so."""
    return int(prompt.rsplit("Text: text ", 1)[1].split()[0])


def small(prompt, path):
    lean = 1 - 2 * number(prompt) / (N - 1)
    return (math.log(0.5 + 0.45 * lean), math.log(0.5 - 0.45 * lean))


def large(prompt, path):
    """Sure of itself, and inclined to `up`: of the texts in the middle it calls most `up`."""
    return (-0.05, -3.0) if number(prompt) % 4 else (-3.0, -0.05)


@pytest.fixture
def ask(tmp_path, monkeypatch, ruled_teacher):
    """Label the texts with both teachers, and return the report; `ask.teachers` are those that answered, by name."""
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"id": f"{i:02d}", "text": f"text {i} of a file"}) + "\n" for i in range(N))
    )
    rules = {"small": small, "large": large}

    def opened(name, **options):
        teacher = ruled_teacher(rules[name])
        type(teacher).identity = property(lambda self: self.own if hasattr(self, "own") else Identity("rule", "d", "d", "build 1"))
        teacher.own = Identity(name, f"digest of {name}", f"digest of {name}", "build 1")
        call.teachers[name] = teacher
        if name in call.limits:
            answer = teacher.answer

            def stopping(*args, **kwargs):
                for path in answer(*args, **kwargs):
                    if len(teacher.asked) > call.limits[name]:
                        raise KeyboardInterrupt
                    yield path

            teacher.answer = stopping
        return teacher

    def call(then=THEN, config=DIRECT, **options):
        call.teachers = {}
        out = tmp_path / "out"
        return label(
            tmp_path / "task.toml", tmp_path / "texts.jsonl", out, config, teacher=TeacherConfig("small"), then=then, **options
        )

    call.limits, call.folder = {}, tmp_path
    monkeypatch.setattr("potstill.workflows.teacher.open_teacher", opened)
    return call


def asked(teacher):
    return {text_id for text_id, _, _ in teacher.asked}


def test_the_second_teacher_is_asked_about_the_least_certain_share_only(ask):
    report = ask()
    assert asked(ask.teachers["small"]) == {f"{i:02d}" for i in range(N)}
    assert asked(ask.teachers["large"]) == {f"{i:02d}" for i in range(15, 25)}  # a quarter, in the middle
    assert (report.labels.n_paths, report.then.n_paths) == (2 * N, 3 * N // 4)
    assert "the second teacher was asked about the least certain texts: 30 paths of 10 texts" in report.as_text()


def test_or_about_those_below_a_probability(ask):
    report = ask(replace(THEN, rule=UncertainRule(below=0.8)))
    with LabelStore.read(ask.folder / "out" / "labels.db") as store:
        (first, _) = store.runs()
        texts = list(store.texts().values())
        chosen = uncertain_texts(store, first, texts, UncertainRule(below=0.8))
        assert uncertain_texts(store, first, texts, UncertainRule(below=0.501)) == []
    assert asked(ask.teachers["large"]) == {text.id for text in chosen}
    assert report.then.n_texts == len(chosen) and 0 < len(chosen) < N


def test_where_no_text_is_uncertain_the_first_teacher_s_labels_stand_alone(ask):
    report = ask(replace(THEN, rule=UncertainRule(below=0.501)))
    assert report.then is None and "large" not in ask.teachers
    assert {row.method for row in report.rows} == {"calibrated"}


def test_a_soft_label_says_which_teachers_it_comes_from(ask):
    report = ask()
    both = [row for row in report.rows if row.method == "calibrated+then"]
    assert [row.id for row in both] == [f"{i:02d}" for i in range(15, 25)]
    assert {row.n_paths for row in both} == {5} and {row.n_paths for row in report.rows if row not in both} == {2}
    assert {row.teacher_digest for row in report.rows} == {"digest of small+digest of large"}


def test_a_student_is_trained_on_the_labels_of_both(ask):
    report = ask()
    rows = read_rows(report.out / labelling.SOFT_LABELS_FILE, load_task(ask.folder / "task.toml"))
    assert len(rows) == N


def test_the_later_teacher_is_brought_to_the_earlier_one_s_label_shares_on_those_texts(ask):
    ask()
    with LabelStore.read(ask.folder / "out" / "labels.db") as store:
        table = read_paths(store, store.find_run(None))
    probs, later = np.exp(calibrated(table)), table.runs == 2
    chosen = np.unique(table.owners[later])
    first = table.per_text(np.where(later[:, None], 0, probs))[chosen] / 2
    second = table.per_text(np.where(later[:, None], probs, 0))[chosen] / 3
    np.testing.assert_allclose(second.mean(axis=0), first.mean(axis=0), atol=1e-5)
    assert np.abs(first - second).max() > 0.3  # and yet they do not agree about the texts


def test_every_teacher_of_a_text_counts_the_same_however_many_paths_it_drew(ask):
    report = ask()
    with LabelStore.read(ask.folder / "out" / "labels.db") as store:
        table = read_paths(store, store.find_run(None))
    weights, later = teacher_weights(table), table.runs == 2
    sums = [np.bincount(table.owners, weights=weights * side, minlength=N) for side in (~later, later)]
    chosen = np.unique(table.owners[later])
    np.testing.assert_allclose(sums[0][chosen], sums[1][chosen])
    np.testing.assert_allclose(sums[0] + sums[1], table.n_paths)
    probs = np.exp(calibrated(table))
    parts = [table.per_text(np.where(side[:, None], probs, 0)) / max(n, 1) for side, n in ((~later, 2), (later, 3))]
    expected = np.where(np.isin(np.arange(N), chosen)[:, None], (parts[0] + parts[1]) / 2, parts[0])
    np.testing.assert_allclose([list(row.probs.values()) for row in report.rows], expected, atol=1e-9)


@pytest.mark.parametrize(("name", "n"), [("small", 0), ("small", 33), ("large", 0), ("large", 11)])
def test_stopped_with_either_teacher_it_goes_on_and_ends_as_if_never_stopped(ask, name, n):
    ask.limits = {name: n}
    with pytest.raises(StoppedError):
        ask()
    ask.limits = {}
    found = ask().rows
    with LabelStore.read(ask.folder / "out" / "labels.db") as store:
        assert [(run.settings.teacher, bool(run.settings.after)) for run in store.runs()] == [("small", False), ("large", True)]
        assert check_store(store).faults == []
    (ask.folder / "out" / "labels.db").unlink()
    assert found == ask().rows


def test_asked_again_nothing_is_drawn_and_a_larger_share_adds_to_the_same_run(ask):
    ask()
    report = ask()
    assert (report.labels.n_drawn, report.then.n_drawn) == (0, 0)
    report = ask(replace(THEN, rule=UncertainRule(0.5)))
    assert (report.labels.n_drawn, report.then.n_drawn, report.then.run.number) == (0, 30, 2)


def test_another_second_teacher_s_settings_are_refused_without_new_run(ask):
    ask()
    with pytest.raises(UserError, match=r"was labelled with another prompt digest, mode, n variants; use --new-run"):
        ask(replace(THEN, mode="cot"))
    assert ask(replace(THEN, mode="cot"), replace(DIRECT, new_run=True)).then.run.number == 3


def test_the_summary_tells_the_teachers_apart(ask):
    ask()
    with LabelStore.read(ask.folder / "out" / "labels.db") as store:
        found = summary(store, store.find_run(None), labelling.DEFAULTS)
        alone = summary(store, store.find_run(1), labelling.DEFAULTS)
    assert (found.first_run, found.run, [row.run for row in found.variants]) == (1, 2, [1, 1, 2, 2, 2])
    assert [(row.run, row.n_texts) for row in found.cost] == [(1, 40), (2, 10)]
    shown = as_text(found).splitlines()
    assert shown[0].startswith("run 1: small (digest of sm")
    assert shown[2] == "then, about the 10 texts of which it was least certain:"
    assert shown[3].startswith("run 2: large (digest of la")
    assert max(map(len, shown)) <= 100
    assert alone.first_run is None and "then, about" not in as_text(alone)
    assert msgspec.json.encode(found)


def test_a_second_run_whose_first_is_gone_is_reported(ask):
    ask()
    with LabelStore.create(ask.folder / "out" / "labels.db") as store:
        run = store.begin_run(msgspec.structs.replace(store.find_run(2).settings, after="0" * 64))
        with pytest.raises(FormatError, match="run 3: follows a run that the store lacks"):
            read_paths(store, run)
        assert [fault for fault in check_store(store).faults if "run 3: follows a run" in fault]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ((0.0,), "then share is 0.0; it must be a share of the texts above 0, up to 1"),
        ((1.5,), "then share is 1.5; it must be a share of the texts above 0, up to 1"),
        ((0.2, 1.01), "then below is 1.01; it must be a probability above 0, up to 1"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule, message):
    with pytest.raises(UserError) as caught:
        UncertainRule(*rule)
    assert str(caught.value) == message


def test_the_console_takes_both_teachers(ask, capsys):
    folder = ask.folder
    ask.teachers = {}
    words = [
        "--teacher",
        "small",
        "--mode",
        "direct",
        "--paths",
        "2",
        "--then",
        "large",
        "--then-share",
        "0.25",
        "--then-mode",
        "direct",
    ]
    assert (
        console(["label", str(folder / "task.toml"), str(folder / "texts.jsonl"), str(folder / "out"), *words, "--then-paths", "3"])
        == 0
    )
    captured = capsys.readouterr()
    assert "asking large about 10 uncertain texts" in captured.err
    assert "30 paths of 10 texts are stored" in captured.out
    rows = read_soft_labels(folder / "out" / "soft_labels.parquet")
    assert sum(row.method == "calibrated+then" for row in rows) == 10


def test_a_second_teacher_uses_the_machine_as_the_first_one_does_unless_it_is_a_server():
    first = TeacherConfig("small", pack="Q8_0", threads=3, parallel=4)
    assert second_teacher(ThenSettings(), first) is None
    found = second_teacher(ThenSettings("large", then_below=0.6, then_paths=2), first)
    assert found == ThenConfig(TeacherConfig("large", threads=3, parallel=4), UncertainRule(below=0.6), "auto", 2)
    assert second_teacher(ThenSettings("http://127.0.0.1:9/v1"), first).teacher == TeacherConfig("http://127.0.0.1:9/v1")


def test_a_project_names_a_second_teacher_in_its_label_table(ask, monkeypatch):
    (ask.folder / "project.toml").write_text(
        'format = 1\ntask = "task.toml"\ntexts = "texts.jsonl"\nout = "out"\nteacher = "small"\n'
        '[label]\nmode = "direct"\nn_paths = 2\nthen = "large"\nthen_share = 0.25\nthen_mode = "direct"\n'
    )
    plans = []

    def stopped(plan, *_):
        plans.append(plan)
        raise UserError("that is all")

    monkeypatch.setattr(pipeline, "label_plan", stopped)
    monkeypatch.setattr(pipeline, "_teacher_digest", lambda teacher: teacher.name)
    with pytest.raises(UserError, match="that is all"):
        pipeline.run_project(ask.folder / "project.toml")
    assert plans[0].then == ThenConfig(TeacherConfig("large"), UncertainRule(0.25), "direct")
