"""A cache that is too small: smaller decodes, then fewer texts at once, and the same paths all the same."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from potstill.contract.errors import UserError
from potstill.labeler.engine.llama import EngineConfig, LlamaEngine, Token
from potstill.labeler.engine.pace import Pace
from potstill.labeler.engine.scheduler import Scheduler
from potstill.labeler.engine.sequences import PREFIX
from potstill.labeler.engine.streams import TextInWork
from potstill.labeler.engine.tokens import LabelWords
from potstill.labeler.engine.variant_context import VariantContext
from potstill.labeler.teacher import AnswerSpec, PathRequest, TeacherPath, never

pytestmark = pytest.mark.slow

READING = AnswerSpec(
    "cot", ("positive", "going down the drain"), "Opinion:", "Sentiment:", temperature=0.5, max_rationale_tokens=12
)
SENTENCES = (
    "Loaded up on calls before the print, then read the report twice and sold half of them at the open. Management talks about growth "
    "every quarter while the debt keeps climbing, and nobody on this board wants to hear it. My uncle works there and says that the new "
    "plant is two years late; make of it what you like. Still, the chart looks fine to me, volume is up and shorts are paying nine percent."
)
N_CELLS = 512  # of a context in which everything fits


@pytest.fixture(params=["dense", "hybrid", "sliding"])  # recurrent memory has a place for each sequence and is never full
def engine(request: pytest.FixtureRequest, tiny_models):
    engine = LlamaEngine(tiny_models[request.param])
    yield engine
    engine.close()


def drawn(
    engine: LlamaEngine,
    n_cells: int,
    n_words: int = 60,
    tell: Callable[[str], None] = lambda _: None,
    spec: AnswerSpec = READING,
    pace: Pace | None = None,
) -> list[TeacherPath]:
    """The paths of texts that are admitted as if there were room for all."""
    engine.start(EngineConfig(n_cells=n_cells, n_batch=256, n_sequences=64))
    engine.config = replace(engine.config, n_cells=10_000)  # what the scheduler believes
    prefix = engine.tokenize("Posts and what they say:\n")
    engine.decode([Token(t, i, PREFIX) for i, t in enumerate(prefix)])
    context = VariantContext(engine, LabelWords.of(engine, spec), spec, 0, 0, len(prefix))
    waiting = []
    for i in range(3):
        request = PathRequest(
            str(i), f"Post: {' '.join((SENTENCES.split() * 4)[i : i + n_words])}\nOpinion:", (0, 1, 2) if context.samples else (0,)
        )
        waiting.append((request, engine.tokenize(request.prompt)))
    paths = list(Scheduler(context, waiting, 24, never, pace).paths(tell))
    return sorted(paths, key=lambda path: (path.text_id, path.path))


def assert_same(paths: list[TeacherPath], others: list[TeacherPath]) -> None:
    assert [(p.text_id, p.path, p.rationale) for p in paths] == [(p.text_id, p.path, p.rationale) for p in others]
    np.testing.assert_allclose([p.word_logprobs for p in paths], [p.word_logprobs for p in others], atol=0.01, rtol=2e-3)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One element for each text that had to leave the cache."""
    evict, found = Scheduler._evict_youngest, []
    monkeypatch.setattr(Scheduler, "_evict_youngest", lambda self: found.append(evict(self)))
    return found


def test_a_batch_that_finds_no_room_is_made_smaller_and_that_is_said_once(engine, left):
    told: list[str] = []
    direct = replace(READING, mode="direct")
    paths = drawn(engine, 256, n_words=85, tell=told.append, spec=direct)
    assert len(told) == 1
    assert told[0].startswith("the KV cache had no room for ")
    assert told[0].endswith(" decodes; smaller ones were used instead, which is slower")
    assert not left
    assert_same(paths, drawn(engine, N_CELLS, n_words=85, tell=told.append, spec=direct))
    assert len(told) == 1


def test_a_text_that_leaves_a_full_cache_begins_anew_and_draws_the_same_paths(engine, left):
    assert_same(drawn(engine, 256, n_words=100), drawn(engine, N_CELLS, n_words=100))
    assert left


def test_a_text_that_leaves_is_not_asked_again_for_the_paths_that_it_has(engine):
    free = [4, 3, 2, 1]
    context = VariantContext(engine, LabelWords.of(engine, READING), READING, 0, 0, 0)
    engine.start(EngineConfig(n_cells=256, n_batch=256, n_sequences=8))
    text = TextInWork(context, PathRequest("a", "prompt", (2, 3, 4, 7), n_first=2), [1, 2, 3], free)
    text.branch(text.sequence)
    text.open.remove(3)
    assert text.evict() == PathRequest("a", "prompt", (2, 4, 7), n_first=1)
    assert sorted(free) == [1, 2, 3, 4]


def held_back(engine: LlamaEngine, n_first: int, n_wanted: int) -> tuple[list[TeacherPath], int]:
    """Paths of four texts, six each at most, whose later ones are held back; and the tokens decoded for them."""
    engine.start(EngineConfig(n_cells=2 * N_CELLS, n_batch=256, n_sequences=64))
    prefix = engine.tokenize("Posts and what they say:\n")
    engine.decode([Token(t, i, PREFIX) for i, t in enumerate(prefix)])
    context = VariantContext(engine, LabelWords.of(engine, READING), READING, 0, 0, len(prefix))
    waiting = [(PathRequest(str(i), "", tuple(range(6)), n_first), engine.tokenize(f"Post: {i} up\nOpinion:")) for i in range(4)]
    counts: Counter[str] = Counter()
    paths, n_decoded, decode = [], 0, engine.decode

    def counting(tokens: Sequence[Token]) -> list[int]:
        nonlocal n_decoded
        n_decoded += len(tokens)
        return decode(tokens)

    engine.decode = counting  # type: ignore[method-assign]
    scheduler = Scheduler(context, waiting, 24, lambda text_id: counts[text_id] >= n_wanted)
    for path in scheduler.paths():
        counts[path.text_id] += 1
        paths.append(path)
    engine.decode = decode  # type: ignore[method-assign]
    assert len(scheduler._free) == 63  # every sequence came back
    return sorted(paths, key=lambda path: (path.text_id, path.path)), n_decoded


@pytest.mark.parametrize("n_wanted", [2, 3, 5])
def test_no_path_begins_while_another_may_still_decide_its_text(engine, n_wanted):
    paths, _ = held_back(engine, n_first=2, n_wanted=n_wanted)
    assert [(path.text_id, path.path) for path in paths] == [(str(i), number) for i in range(4) for number in range(n_wanted)]


def test_paths_that_were_held_back_are_the_same_and_cost_no_token_more(engine):
    together, n_together = held_back(engine, n_first=0, n_wanted=6)
    later, n_later = held_back(engine, n_first=2, n_wanted=6)
    fewer, n_fewer = held_back(engine, n_first=2, n_wanted=3)
    for paths in (later, fewer):  # other texts in the same decode change a logit's last bits, and so a draw now and then
        drawn_too = {(p.text_id, p.path, p.rationale) for p in together}
        assert sum((p.text_id, p.path, p.rationale) in drawn_too for p in paths) >= len(paths) - 3
    assert n_later == pytest.approx(n_together, rel=0.1)
    assert n_fewer < 0.8 * n_together


def test_a_text_that_overfills_the_cache_alone_is_named(engine):
    with pytest.raises(UserError) as caught:
        drawn(engine, 256, n_words=650)
    assert str(caught.value) == "text 0 alone overfills the KV cache; lower --paths or shorten the text"


@pytest.mark.parametrize("engine", ["dense"], indirect=True)
def test_a_decode_that_fails_for_good_keeps_the_paths_that_were_drawn(engine):
    decode, paths = engine.decode, []
    engine.start(EngineConfig(n_cells=N_CELLS, n_batch=256, n_sequences=64))
    prefix = engine.tokenize("Posts and what they say:\n")
    engine.decode([Token(t, i, PREFIX) for i, t in enumerate(prefix)])
    context = VariantContext(engine, LabelWords.of(engine, READING), READING, 0, 0, len(prefix))
    prompt = engine.tokenize("Post: up\nOpinion:")
    waiting = [(PathRequest("0", "", (0,)), prompt), (PathRequest("1", "", (0,)), prompt)]
    results = Scheduler(context, waiting, 1, never).paths()
    paths.append(next(results))
    engine.decode = lambda tokens: decode([replace(token, token=-7) for token in tokens])  # type: ignore[method-assign]
    with pytest.raises(
        UserError,
        match=r"^llama\.cpp could not decode \(-1: init: invalid token\[0\] = -7; .*paths drawn before are kept, and the same command goes on$",
    ):
        paths.extend(results)
    assert [path.text_id for path in paths] == ["0"]


class Alternating(Pace):
    """Two threads, one, two, one, ..., and a note of every decode."""

    def __init__(self):
        super().__init__([2, 1], 2)
        self.noted = []

    def decoded(self, n_tokens, seconds, cpu_seconds):
        self.noted.append((n_tokens, seconds, cpu_seconds))
        self.n_threads = 3 - self.n_threads
        return self.n_threads


def test_the_pace_sees_every_decode_and_sets_the_threads_of_the_next_and_the_paths_are_the_same(engine, monkeypatch):
    used, decode = [], engine.decode
    monkeypatch.setattr(engine, "decode", lambda tokens: used.append(engine.config.n_threads) or decode(tokens))
    pace = Alternating()
    paths = drawn(engine, N_CELLS, pace=pace)
    assert used[1:] == [2, 1] * ((len(used) - 1) // 2) + [2] * ((len(used) - 1) % 2)  # the first one is the prefix
    assert len(pace.noted) == len(used) - 1
    assert all(n > 0 and seconds > 0 and cpu >= 0 for n, seconds, cpu in pace.noted)
    assert_same(paths, drawn(engine, N_CELLS))
