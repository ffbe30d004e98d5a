"""Which paths a run draws: adaptive ones until a text is decided, a cascade's for the uncertain texts, and the same after a stop."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.contract.errors import StoppedError
from potstill.contract.task import Example, Label, Task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.run import path_collector
from potstill.labeler.run.label import label
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teacher import AnswerSpec, Enough, Identity, PathRequest, TeacherPath, TooLong, never

pytestmark = pytest.mark.slow

TASK = Task(
    format=1,
    name="t",
    question="Up or down?",
    guideline="",
    labels=[Label(name="up", meaning="u"), Label(name="down", meaning="d")],
    examples=[Example(text="I buy", rationale="Bought.", label="up"), Example(text="I sell", rationale="Sold.", label="down")],
)
UP, DOWN = (math.log(0.9), math.log(0.1)), (math.log(0.1), math.log(0.9))


def opinion(text_id: str, path: int) -> tuple[float, float]:
    """`u3`: up on every path; `d3`: down; `s3`: split."""
    return {"u": UP, "d": DOWN, "s": DOWN if path % 2 else UP}[text_id[0]]


class Table:
    """Answers by a rule, as the real teacher does it: first paths at once, then one by one while the text is undecided."""

    def __init__(
        self, rule: Callable[[str, int], tuple[float, float]] = opinion, stop_after: int = 10**9, long=frozenset()
    ) -> None:
        self.rule, self.stop_after, self.long, self.drawn = rule, stop_after, long, []
        self.asked: list[tuple[str, ...]] = []

    @property
    def identity(self) -> Identity:
        return Identity("table", "d", "d", "build 1")

    def answer(
        self, prefix: str, variant: int, requests: Sequence[PathRequest], spec: AnswerSpec, run_seed: int, enough: Enough = never
    ) -> Iterator[TeacherPath | TooLong]:
        self.asked.append(tuple(request.text_id for request in requests if (request.text_id, variant) not in self.long))
        for request in requests:
            if (request.text_id, variant) in self.long:
                yield TooLong(request.text_id, 99, 9)
                continue
            for i, number in enumerate(request.paths):
                if i >= request.n_at_once and enough(request.text_id):
                    break
                if len(self.drawn) == self.stop_after:
                    raise KeyboardInterrupt
                self.drawn.append((request.text_id, number))
                yield TeacherPath(request.text_id, number, variant, number, spec.mode, self.rule(request.text_id, number), 3, 1)

    def close(self) -> None:
        pass


def texts(**kinds: int) -> list[Text]:
    return [Text(f"a text {kind}{i}", f"{kind}{i}") for i in range(max(kinds.values())) for kind, n in kinds.items() if i < n]


def rows(file: Path) -> list[TeacherPath]:
    with LabelStore.read(file) as store:
        return list(store.paths(store.runs()[0]))


def test_an_adaptive_run_asks_a_unanimous_text_little_and_a_split_one_everything(tmp_path: Path):
    label(TASK, texts(u=5, d=5, s=5), tmp_path / "labels.db", Table(), LabelConfig(n_paths=8, bound=0.9))
    n_paths = Counter(path.text_id for path in rows(tmp_path / "labels.db"))
    assert {n for text_id, n in n_paths.items() if text_id[0] in "ud"} == {3}  # two of the pilot; one more decides
    assert {n for text_id, n in n_paths.items() if text_id[0] == "s"} == {8}


def test_a_text_beyond_the_pilot_is_asked_until_the_bound_and_no_further(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(path_collector, "N_PILOT", 6)
    label(TASK, texts(u=10, d=10), tmp_path / "labels.db", Table(), LabelConfig(n_paths=8, bound=0.9))
    assert Counter(Counter(path.text_id for path in rows(tmp_path / "labels.db")).values()) == {3: 20}


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_finished_adaptive_run_draws_nothing_more(tmp_path: Path, deterministic):
    config = LabelConfig(n_paths=8, bound=0.9, deterministic=deterministic)
    label(TASK, texts(u=50, d=50, s=3), tmp_path / "labels.db", Table(), config)
    again = Table()
    label(TASK, texts(u=50, d=50, s=3), tmp_path / "labels.db", again, config)
    assert (again.asked, again.drawn) == ([], [])


def test_an_adaptive_direct_run_puts_later_prompts_only_to_undecided_texts(tmp_path: Path):
    label(TASK, texts(u=5, d=5, s=4), tmp_path / "labels.db", Table(), LabelConfig(mode="direct", n_paths=8, bound=0.8))
    n_paths = Counter(path.text_id for path in rows(tmp_path / "labels.db"))
    assert {n for text_id, n in n_paths.items() if text_id[0] in "ud"} == {2}
    assert {n for text_id, n in n_paths.items() if text_id[0] == "s"} == {8}


@pytest.mark.parametrize(("uncertain", "n_chosen"), [(0.0, 0), (0.25, 3), (0.3, 4), (1.0, 12)])
@pytest.mark.parametrize("bound", [0.0, 0.9])
def test_a_cascade_reasons_about_exactly_the_uncertain_share(tmp_path: Path, uncertain, n_chosen, bound):
    made = texts(u=4, d=4, s=4)
    config = LabelConfig(mode="cascade", n_direct=2, n_paths=3, uncertain=uncertain, bound=bound)
    report = label(TASK, made, tmp_path / "labels.db", Table(), config)
    reasoned = {path.text_id for path in rows(tmp_path / "labels.db") if path.rationale == "cot"}
    assert len(reasoned) == n_chosen
    assert sum(text_id[0] == "s" for text_id in reasoned) == min(4, n_chosen)
    if not bound:
        assert report.n_paths == 12 * 2 + n_chosen * 3


CONFIGS = [
    LabelConfig(n_paths=5),
    LabelConfig(n_paths=6, bound=0.9),
    LabelConfig(n_paths=6, bound=0.9, n_variants=2),
    LabelConfig(mode="direct", n_paths=4),
    LabelConfig(mode="direct", n_paths=6, bound=0.8),
    LabelConfig(mode="cascade", n_direct=3, n_paths=4, uncertain=0.4),
    LabelConfig(mode="cascade", n_direct=3, n_paths=6, uncertain=0.4, bound=0.9),
]


@given(st.sampled_from(CONFIGS), st.booleans(), st.integers(0, 10**6), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_that_is_stopped_again_and_again_draws_the_same_paths_in_the_same_blocks(tmp_path_factory, config, fixed, seed, long):
    folder, rng = tmp_path_factory.mktemp("run"), random.Random(seed)
    rule = {(i, p): rng.choice((UP, DOWN, (math.log(0.45), math.log(0.55)))) for i in range(24) for p in range(12)}
    made = [Text(f"a text {i}", str(i)) for i in range(24)]
    too_long = (
        frozenset({(str(i), v) for i in (3, 17) for v in range(1, 4)} | {("5", v) for v in range(4)}) if long else frozenset()
    )
    config = LabelConfig(**{**config.__dict__, "deterministic": fixed})
    seen: list[tuple[int, int]] = []
    small = pytest.MonkeyPatch()
    small.setattr(path_collector, "N_BLOCK", 4)
    small.setattr(path_collector, "N_PILOT", 9)

    def teacher(stop_after: int = 10**9) -> Table:
        return Table(lambda text_id, path: rule[int(text_id), path], stop_after, too_long)

    unbroken = teacher()
    label(TASK, made, folder / "a.db", unbroken, config, lambda live: seen.append((live.n_paths, live.total)))
    assert seen[-1][0] == seen[-1][1] == len(rows(folder / "a.db"))
    asked: set[tuple[str, ...]] = set()
    while True:
        stopped = teacher(rng.randrange(20, 100))
        try:
            label(TASK, made, folder / "b.db", stopped, config, lambda live: seen.append((live.n_paths, live.total)))
            break
        except StoppedError:
            pass
        finally:
            asked.update(stopped.asked)
    small.undo()
    assert all(n <= total for n, total in seen)
    assert seen[-1][0] == seen[-1][1] == len(rows(folder / "b.db"))
    if fixed or not config.bound:
        assert rows(folder / "a.db") == rows(folder / "b.db")
    if fixed:
        assert asked <= set(unbroken.asked)  # every block was put to the teacher whole, as the first time


def test_a_fixed_schedule_goes_on_at_the_block_that_was_broken_off(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(path_collector, "N_PILOT", 4)
    made, config = texts(u=100, d=100, s=10), LabelConfig(n_paths=8, bound=0.9, deterministic=True)
    unbroken = Table()
    label(TASK, made, tmp_path / "a.db", unbroken, config)
    with pytest.raises(StoppedError):
        label(TASK, made, tmp_path / "b.db", Table(stop_after=len(unbroken.drawn) - 20), config)
    rest = Table()
    label(TASK, made, tmp_path / "b.db", rest, config)
    assert len(rest.asked) == 1
    assert len(rest.drawn) <= path_collector.N_BLOCK * 8
    assert rows(tmp_path / "a.db") == rows(tmp_path / "b.db")


def test_what_counts_as_everything_is_what_this_command_asks_for(tmp_path: Path):
    label(TASK, texts(u=10, d=10), tmp_path / "labels.db", Table(), LabelConfig(n_paths=4))
    seen = []
    report = label(TASK, texts(u=2), tmp_path / "labels.db", Table(), LabelConfig(n_paths=2), lambda live: seen.append(live.total))
    assert (report.n_paths, report.n_drawn) == (8, 0)  # of two texts, four paths each, although two would do
    assert set(seen) == {8}


def test_a_text_too_long_for_some_prompts_only_has_a_label_and_is_not_counted_as_without(tmp_path: Path):
    teacher = Table(long=frozenset({("u1", 1), ("d1", 0), ("d1", 1)}))
    report = label(TASK, texts(u=3, d=3), tmp_path / "labels.db", teacher, LabelConfig(mode="direct", n_paths=2))
    assert (report.n_paths, report.n_too_long) == (9, 1)


def test_a_run_whose_texts_are_all_too_long_ends_without_a_path(tmp_path: Path):
    teacher = Table(long=frozenset({("u0", 0), ("u1", 0)}))
    report = label(TASK, texts(u=2), tmp_path / "labels.db", teacher, LabelConfig(n_paths=4, bound=0.9))
    assert (report.n_paths, report.n_too_long) == (0, 2)
