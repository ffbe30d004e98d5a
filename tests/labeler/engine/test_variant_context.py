"""The size of the context, over the tokens of a real vocabulary."""

from dataclasses import replace

import pytest

from potstill.contract.errors import UserError
from potstill.labeler.engine.autotune import EngineSettings
from potstill.labeler.engine.llama_engine import LlamaEngine
from potstill.labeler.engine.tokens import LabelWords
from potstill.labeler.engine.variant_context import CELL_BLOCK, MAX_SEQUENCES, VariantContext, context_for, context_for_one
from potstill.labeler.teacher import AnswerSpec, PathRequest

PACE = EngineSettings(
    n_threads=1, n_batch=512, n_live_paths=24, flash_attention=False, prompt_tokens_per_s=0.0, path_tokens_per_s=0.0
)
PREFIX = 300
SHORT, LONG = 50, 8000


@pytest.fixture(scope="module")
def engine(tiny_models):
    engine = LlamaEngine(tiny_models["dense"])
    yield engine
    engine.close()


@pytest.fixture(params=["direct", "cot"])
def context(request: pytest.FixtureRequest, engine: LlamaEngine) -> VariantContext:
    return context_of(engine, request.param)


def context_of(engine: LlamaEngine, mode: str) -> VariantContext:
    spec = AnswerSpec(mode, ("positive", "going down"), "Opinion:", "Sentiment:", 0.5, max_rationale_tokens=40)  # type: ignore[arg-type]
    return VariantContext(engine, LabelWords.of(engine, spec), spec, 0, 0, PREFIX)


def requests(*lengths: int, paths: int = 8) -> list[tuple[PathRequest, list[int]]]:
    return [(PathRequest(str(i), "", tuple(range(paths))), [0] * n) for i, n in enumerate(lengths)]


def test_one_long_text_among_many_short_ones_costs_its_own_cells_and_no_more(context):
    n_paths = 8 if context.samples else 1
    without = context_for(PACE, context, requests(*[SHORT] * 1000, paths=n_paths)).n_cells
    with_it = context_for(PACE, context, requests(*[SHORT] * 1000, LONG, paths=n_paths)).n_cells
    assert abs(with_it - without - LONG) <= 2 * CELL_BLOCK


@pytest.mark.parametrize("lengths", [[LONG], [SHORT, LONG], [SHORT] * 9, [LONG] * 9])
def test_the_longest_text_always_fits(context, lengths):
    n_paths = 8 if context.samples else 1
    chosen = requests(*lengths, paths=n_paths)
    assert context_for(PACE, context, chosen).n_cells >= PREFIX + context.n_cells(max(lengths), n_paths, n_paths)
    assert context_for_one(PACE, context, chosen).n_cells >= PREFIX + context.n_cells(max(lengths), 1, 1)


def test_equal_texts_get_the_cells_of_all_that_live_at_once(engine):
    context = context_of(engine, "cot")
    assert context_for(PACE, context, requests(*[SHORT] * 1000)).n_cells >= PREFIX + 6 * context.n_cells(SHORT, 8, 8)


def test_more_paths_than_there_are_sequences_are_refused(engine):
    context = context_of(engine, "cot")
    with pytest.raises(UserError, match=rf"^200 paths need 400 sequences; at most {MAX_SEQUENCES} exist: ask for fewer$"):
        context_for(PACE, context, requests(SHORT, paths=200))


def test_held_back_paths_need_sequences_but_few_cells(engine):
    context = context_of(engine, "cot")
    alike = requests(*[SHORT] * 1000)
    held_back = [(replace(request, n_first=2), tokens) for request, tokens in alike]
    at_once, later = context_for(PACE, context, alike), context_for(PACE, context, held_back)
    assert later.n_sequences == at_once.n_sequences
    assert PREFIX + 6 * context.n_cells(SHORT, 3, 3) <= later.n_cells < at_once.n_cells
