"""The size of the context, and the log-probabilities of label words, over the tokens of a real vocabulary."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax

from potstill.contract.errors import UserError
from potstill.labeler.engine.autotune import EngineSettings
from potstill.labeler.engine.llama import LlamaEngine
from potstill.labeler.engine.tokens import LabelWords, logprobs
from potstill.labeler.engine.variant_context import CELL_BLOCK, MAX_SEQUENCES, VariantContext, engine_config, single_sequence_config
from potstill.labeler.teacher import AnswerSpec, PathRequest

pytestmark = pytest.mark.slow

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
    without = engine_config(PACE, context, requests(*[SHORT] * 1000, paths=n_paths)).n_cells
    with_it = engine_config(PACE, context, requests(*[SHORT] * 1000, LONG, paths=n_paths)).n_cells
    assert abs(with_it - without - LONG) <= 2 * CELL_BLOCK


@pytest.mark.parametrize("lengths", [[LONG], [SHORT, LONG], [SHORT] * 9, [LONG] * 9])
def test_the_longest_text_always_fits(context, lengths):
    n_paths = 8 if context.samples else 1
    chosen = requests(*lengths, paths=n_paths)
    assert engine_config(PACE, context, chosen).n_cells >= PREFIX + context.n_cells(max(lengths), n_paths, n_paths)
    assert single_sequence_config(PACE, context, chosen).n_cells >= PREFIX + context.n_cells(max(lengths), 1, 1)


def test_equal_texts_get_the_cells_of_all_that_live_at_once(engine):
    context = context_of(engine, "cot")
    assert engine_config(PACE, context, requests(*[SHORT] * 1000)).n_cells >= PREFIX + 6 * context.n_cells(SHORT, 8, 8)


def test_more_paths_than_there_are_sequences_are_refused(engine):
    context = context_of(engine, "cot")
    with pytest.raises(UserError, match=rf"^200 paths need 400 sequences; at most {MAX_SEQUENCES} exist: ask for fewer$"):
        engine_config(PACE, context, requests(SHORT, paths=200))


def test_held_back_paths_need_sequences_but_few_cells(engine):
    context = context_of(engine, "cot")
    alike = requests(*[SHORT] * 1000)
    held_back = [(replace(request, n_first=2), tokens) for request, tokens in alike]
    at_once, later = engine_config(PACE, context, alike), engine_config(PACE, context, held_back)
    assert later.n_sequences == at_once.n_sequences
    assert PREFIX + 6 * context.n_cells(SHORT, 3, 3) <= later.n_cells < at_once.n_cells


# Label words


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_log_probabilities_are_those_of_the_softmax(scale):
    logits = (np.random.default_rng(0).normal(size=1000) * scale).astype(np.float32)
    np.testing.assert_allclose(logprobs(logits, [3, 999]), log_softmax(logits.astype(np.float64))[[3, 999]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused_before_they_are_stored(bad):
    logits = np.zeros(10, dtype=np.float32)
    logits[7] = bad
    with pytest.raises(UserError) as caught:
        logprobs(logits, [0])
    expected = "its weights are damaged; check the file with: potstill models verify"
    assert str(caught.value) == f"the teacher's logits are {bad}: {expected}"


@pytest.mark.parametrize(
    ("tokens", "begin", "apart"),
    [
        (((1,), (2,)), [0.5, 0.25], [0.5, 0.25]),
        (((1,), (1, 7)), [0.5, 0.2], [0.3, 0.2]),
        (((1, 7), (1,)), [0.2, 0.5], [0.2, 0.3]),
        (((1,), (1, 7), (1, 7, 8), (1, 9)), [0.6, 0.3, 0.1, 0.2], [0.1, 0.2, 0.1, 0.2]),
        (((1,), (1, 7)), [0.5, 0.5], [0.5e-6, 0.5]),  # always goes on
        (((1,), (1, 7)), [0.5, 0.50001], [0.5e-6, 0.50001]),  # and is rounded
    ],
)
def test_what_goes_on_to_a_longer_word_is_taken_from_the_one_that_begins_it(tokens, begin, apart):
    begun_by = tuple(
        max((i for i, other in enumerate(tokens) if other != word and word[: len(other)] == other), key=lambda i: len(tokens[i]), default=None)
        for word in tokens
    )  # fmt: skip
    found = LabelWords(tokens, begun_by).apart([float(np.log(value)) for value in begin])
    np.testing.assert_allclose(np.exp(found), apart, rtol=1e-4)
