"""The size of the context, over the tokens of a real vocabulary."""

from dataclasses import replace

import pytest

from potstill.contract.errors import UserError
from potstill.labeler.engine.autotune import Pace
from potstill.labeler.engine.llama_engine import LlamaEngine
from potstill.labeler.engine.tokens import LabelWords
from potstill.labeler.engine.variant_context import CELL_BLOCK, MAX_SEQUENCES, Draw, context_for, context_for_one
from potstill.labeler.teacher import Ask, Reading

PACE = Pace(n_threads=1, n_batch=512, n_live_paths=24, flash_attention=False, prompt_tokens_per_s=0.0, path_tokens_per_s=0.0)
PREFIX = 300
SHORT, LONG = 50, 8000


@pytest.fixture(scope="module")
def engine(tiny_models):
    engine = LlamaEngine(tiny_models["dense"])
    yield engine
    engine.close()


@pytest.fixture(params=["direct", "cot"])
def draw(request: pytest.FixtureRequest, engine: LlamaEngine) -> Draw:
    return draw_of(engine, request.param)


def draw_of(engine: LlamaEngine, mode: str) -> Draw:
    reading = Reading(mode, ("positive", "going down"), "Opinion:", "Sentiment:", 0.5, max_rationale_tokens=40)  # type: ignore[arg-type]
    return Draw(engine, LabelWords.of(engine, reading), reading, 0, 0, PREFIX)


def asks(*lengths: int, paths: int = 8) -> list[tuple[Ask, list[int]]]:
    return [(Ask(str(i), "", tuple(range(paths))), [0] * n) for i, n in enumerate(lengths)]


def test_one_long_text_among_many_short_ones_costs_its_own_cells_and_no_more(draw):
    n_paths = 8 if draw.samples else 1
    without = context_for(PACE, draw, asks(*[SHORT] * 1000, paths=n_paths)).n_cells
    with_it = context_for(PACE, draw, asks(*[SHORT] * 1000, LONG, paths=n_paths)).n_cells
    assert abs(with_it - without - LONG) <= 2 * CELL_BLOCK


@pytest.mark.parametrize("lengths", [[LONG], [SHORT, LONG], [SHORT] * 9, [LONG] * 9])
def test_the_longest_text_always_fits(draw, lengths):
    n_paths = 8 if draw.samples else 1
    chosen = asks(*lengths, paths=n_paths)
    assert context_for(PACE, draw, chosen).n_cells >= PREFIX + draw.n_cells(max(lengths), n_paths, n_paths)
    assert context_for_one(PACE, draw, chosen).n_cells >= PREFIX + draw.n_cells(max(lengths), 1, 1)


def test_equal_texts_get_the_cells_of_all_that_live_at_once(engine):
    draw = draw_of(engine, "cot")
    assert context_for(PACE, draw, asks(*[SHORT] * 1000)).n_cells >= PREFIX + 6 * draw.n_cells(SHORT, 8, 8)


def test_more_paths_than_there_are_sequences_are_refused(engine):
    draw = draw_of(engine, "cot")
    with pytest.raises(UserError, match=rf"^200 paths need 400 sequences; at most {MAX_SEQUENCES} exist: ask for fewer$"):
        context_for(PACE, draw, asks(SHORT, paths=200))


def test_held_back_paths_need_sequences_but_few_cells(engine):
    draw = draw_of(engine, "cot")
    alike = asks(*[SHORT] * 1000)
    held_back = [(replace(ask, n_first=2), tokens) for ask, tokens in alike]
    at_once, later = context_for(PACE, draw, alike), context_for(PACE, draw, held_back)
    assert later.n_sequences == at_once.n_sequences
    assert PREFIX + 6 * draw.n_cells(SHORT, 3, 3) <= later.n_cells < at_once.n_cells
