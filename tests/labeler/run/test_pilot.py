"""A pilot's pace adds up to what a run of that teacher takes, and the table of a plan chooses by it."""

import time
from dataclasses import replace

import pytest
from support.teachers.table_teacher import TASK, Table
from support.toy_questions import a_questionnaire

from potstill.contract.errors import UserError
from potstill.contract.scores.record import Score
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig, LocalConfig
from potstill.labeler.engine.llama import LlamaEngine
from potstill.labeler.run import pilot
from potstill.labeler.run.pilot import LabellingPace, measured_pace, measured_questions_pace
from potstill.labeler.run.plan_rows import PATHS, USED, PlanRow, best_fit, fitting, recommended, with_paths
from potstill.labeler.run.questions import parts_of
from potstill.labeler.teacher import Identity
from potstill.labeler.teachers.local import LocalTeacher

pytestmark = pytest.mark.slow

PACE = LabellingPace(start_s=2.0, variant_s=0.5, read_s=0.1, rationale_s=0.2, reasoning_s=0.7, settle_s=1.0)
DIRECT, COT, CASCADE = (LabelConfig(mode=mode) for mode in ("direct", "cot", "cascade"))
TEXTS = [Text(f"text number {i}", str(i)) for i in range(400)]


def test_a_run_takes_what_its_parts_take():
    settle_s = pilot._SETTLE_PATH_S
    assert PACE.run_s(DIRECT, 100) == pytest.approx(2 + 1 + 8 * 0.5 + 100 * (0.8 + 8 * settle_s))
    assert PACE.run_s(COT, 100) == pytest.approx(2 + 1 + 0.7 + 100 * (0.1 + 1.6 + 8 * settle_s))
    assert PACE.run_s(CASCADE, 100) == pytest.approx(2 + 1 + 4 * 0.5 + 0.7 + 100 * (0.4 + 0.3 * 1.7 + 12 * settle_s))
    assert replace(PACE, rationale_s=None).run_s(COT, 100) is None


def test_a_teacher_of_twice_the_weights_takes_twice_the_time_but_for_the_soft_labels():
    twice = PACE.scaled(2)
    assert twice.run_s(COT, 50) - 1.0 - 50 * 8 * pilot._SETTLE_PATH_S == pytest.approx(
        2 * (PACE.run_s(COT, 50) - 1.0 - 50 * 8 * pilot._SETTLE_PATH_S)
    )


class Slow(Table):
    """A teacher that takes a stated time for a request and for every path, as one with a real model would."""

    def __init__(self, request_s, path_s):
        super().__init__()
        self.request_s, self.path_s = request_s, path_s

    def answer(self, prefix, variant, requests, spec, run_seed, enough=None):
        time.sleep(self.request_s)
        for path in super().answer(prefix, variant, requests, spec, run_seed):
            time.sleep(self.path_s * (2 if spec.mode == "cot" else 1))
            yield path


def test_a_measured_pace_is_that_of_the_teacher():
    pace = measured_pace(TASK, TEXTS, Slow(0.3, 0.005), DIRECT, 4.0, start_s=1.5, cot=True)
    assert pace.read_s == pytest.approx(0.005, rel=0.4)
    assert pace.rationale_s == pytest.approx(0.01 - 0.005 / 8, rel=0.4)
    assert 0.1 < pace.variant_s < 0.8 and pace.start_s == 1.5


def test_longer_texts_than_those_drawn_take_longer(monkeypatch):
    monkeypatch.setattr(pilot, "N_TEXTS", 100)
    monkeypatch.setattr(pilot, "pilot_texts", lambda texts: list(texts[:100]))
    long = [Text("x" * (3 * (11 + pilot._AROUND) - pilot._AROUND), f"l{i}") for i in range(100)]
    short = [Text("x" * 11, f"s{i}") for i in range(100)]
    alike = measured_pace(TASK, [*short, *short[:0]], Slow(0.0, 0.004), DIRECT, 2.0, start_s=0, cot=False)
    mixed = measured_pace(TASK, [*short, *long], Slow(0.0, 0.004), DIRECT, 2.0, start_s=0, cot=False)
    assert mixed.read_s / alike.read_s == pytest.approx(2, rel=0.3)


def test_a_teacher_that_draws_hardly_anything_is_refused():
    with pytest.raises(UserError, match=r"table drew \d paths in 1 s, too few to plan with; give more seconds with --measure$"):
        measured_pace(TASK, TEXTS, Slow(0.0, 0.6), DIRECT, 1.0, start_s=0, cot=False)


# Several questions


class SlowToAnyWords(Slow):
    """The same teacher, for questions of different labels."""

    def answer(self, prefix, variant, requests, spec, run_seed, enough=None):
        for path in super().answer(prefix, variant, requests, spec, run_seed, enough):
            yield replace(path, word_logprobs=tuple(-1.0 - i for i in range(len(spec.words))))


@pytest.fixture
def local(tiny_models):
    engine = LlamaEngine(tiny_models["dense"])
    config = LocalConfig(n_threads=1, n_batch=256, n_live_paths=24, flash_attention=False)
    yield LocalTeacher(engine, Identity("tiny", "d", "d", "b"), config)
    engine.close()


def questions_pace(teacher, config, texts=TEXTS, seconds=4.0, *, cot=False):
    return measured_questions_pace(
        a_questionnaire(), texts, teacher, config, seconds, start_s=1.5, cot=cot, nearest_of=lambda *_: None
    )


def test_questions_that_are_asked_one_after_the_other_take_the_sum_of_their_times():
    pace = questions_pace(SlowToAnyWords(0.0, 0.004), DIRECT)
    assert 6 * 0.004 * 0.9 < pace.read_s < 6 * 0.04  # beside other work each path takes longer, and never less
    assert (pace.n_asks, pace.start_s) == (6, 1.5)
    text_s = pace.text_s(LabelConfig(mode="direct", n_paths=2))
    assert text_s == pytest.approx(2 * pace.read_s + 6 * 2 * pilot._SETTLE_PATH_S)
    alone = LabellingPace(0.0, 0.0, 0.0, None, settle_s=pilot._SETTLE_S)
    assert alone.beside(alone).settle_s == pilot._SETTLE_S  # written once


def test_questions_that_share_a_prompt_are_timed_together_and_cost_less_than_alone(local):
    task = a_questionnaire()
    assert [sum(len(fork.asks) for fork in part) for part in parts_of(task, local, DIRECT)] == [6]
    assert [len(part) for part in parts_of(task, local, CASCADE)] == [1] * 6
    texts = [Text(f"{i} " + "the price will surely rise " * 12, str(i)) for i in range(200)]
    together, alone = (questions_pace(local, config, texts, 7.0) for config in (DIRECT, CASCADE))
    assert together.n_asks == alone.n_asks == 6
    assert 0 < together.read_s < 0.6 * alone.read_s


def test_rationales_of_several_questions_are_timed_too(monkeypatch):
    monkeypatch.setattr(pilot, "N_PATHS", 2)
    pace = questions_pace(SlowToAnyWords(0.0, 0.004), COT, seconds=6.0, cot=True)
    assert 6 * (0.008 - 0.004 / 2) * 0.7 < pace.rationale_s < 6 * 0.08


# The table


def test_where_all_texts_fit_the_run_is_as_long_as_it_takes():
    assert fitting(PACE, DIRECT, 100, 3600) == (100, PACE.run_s(DIRECT, 100))


def test_where_not_all_fit_the_run_fills_the_time():
    n, seconds = fitting(PACE, DIRECT, 10_000, 3600)
    assert n < 10_000 and USED * 3600 - PACE.text_s(DIRECT) < seconds <= USED * 3600


@pytest.mark.parametrize(("pace", "seconds"), [(replace(PACE, rationale_s=None), 3600), (PACE, 3)])
def test_a_mode_that_was_not_measured_and_a_time_that_is_too_short_label_nothing(pace, seconds):
    assert fitting(pace, COT, 100, seconds) == (0, 0.0)


def test_the_most_paths_with_which_all_texts_fit_are_chosen():
    options = with_paths(LabelConfig(), "direct")
    assert [config.n_paths for config in options] == list(PATHS["direct"])
    chosen = {hours: best_fit(PACE, options, 4000, 3600 * hours)[0].n_paths for hours in (1.2, 0.6, 0.3, 0.1)}
    assert chosen == {1.2: 8, 0.6: 4, 0.3: 2, 0.1: 2}
    assert [config.n_paths for config in with_paths(LabelConfig(), "cot", 3)] == [3]


def row(teacher, size_mb, n_texts, f1=None, mode="direct", usual=True, known="measured", seconds=100.0):
    score = None if f1 is None else Score(value=f1, low=f1 - 0.1, high=f1 + 0.1, n=100)
    return PlanRow(teacher, size_mb, LabelConfig(mode=mode), n_texts, seconds, known, score, usual)


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([row("a", 100, 5000, 0.5), row("b", 900, 5000, 0.6), row("c", 900, 5000)], 1),  # the best known score
        ([row("a", 100, 5000, 0.5), row("b", 900, 300, 0.6)], 0),  # among those that label enough
        ([row("a", 100, 5000), row("b", 900, 1200), row("b", 900, 1200, mode="cot", usual=False)], 1),  # else the largest teacher
        ([row("a", 100, 400), row("b", 900, 300)], 0),  # too little time for all: the most texts
        ([row("a", 100, 400), row("b", 900, 5000, known="estimate")], 0),  # never an estimate
        ([row("a", 100, 0)], None),
    ],
)
def test_the_recommended_row(rows, best):
    found = recommended(rows, 5000, 1000)
    assert found is (None if best is None else rows[best])
