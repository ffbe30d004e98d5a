"""Several questions about a text in one go say what each of them says alone; models of every kind of memory."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from potstill.labeler.config import LocalConfig
from potstill.labeler.engine.llama import EngineConfig, LlamaEngine, Token
from potstill.labeler.engine.sequences import PREFIX as PREFIX_SEQUENCE
from potstill.labeler.engine.shared_texts import SharedTextScheduler, packed, shared_tokens
from potstill.labeler.teacher import AnswerSpec, Identity, PathRequest, QuestionRequests, TeacherPath, TooLong
from potstill.labeler.teachers.local import LocalTeacher

pytestmark = pytest.mark.slow

PREFIX = "Posts and what they say:\n\nPost: I bought.\nStance: positive\nSure: high\n\n"
TEXTS = [
    "Loaded up on calls before the print.",
    "My uncle works there. It is late!",
    "up",
    "The chart looks fine to me; volume is up.",
]
FIELDS = {
    "stance": ("Stance", ("positive", "negative", "going down the drain")),
    "asks": ("Asks", ("yes", "no")),
    "sure": ("Sure", ("low", "middle", "high")),
}
STATED = {"n_threads": 2, "n_batch": 256, "n_live_paths": 24, "flash_attention": False}
TOLERANCE = {"atol": 0.01, "rtol": 2e-3}  # nats; batches of other sizes round differently


@pytest.fixture(params=["dense", "recurrent", "hybrid", "sliding"])
def engine(request: pytest.FixtureRequest, tiny_models):
    engine = LlamaEngine(tiny_models[request.param])
    yield engine
    engine.close()


def teacher(engine: LlamaEngine, **config: Any) -> LocalTeacher:
    return LocalTeacher(engine, Identity("tiny", "d", "d", engine.build()), LocalConfig(**(STATED | config)))


def asked(mode: str, n_paths: int = 1, texts: list[str] = TEXTS) -> list[QuestionRequests]:
    found = []
    for key, (field, words) in FIELDS.items():
        spec = AnswerSpec(mode, words, f"{field}, opinion:", f"{field}:", temperature=0.5, max_rationale_tokens=8)
        cue = spec.answer_cue if mode == "direct" else spec.rationale_cue
        requests = [PathRequest(str(i), f"Post: {text}\n{cue}", tuple(range(n_paths))) for i, text in enumerate(texts)]
        found.append(QuestionRequests(key, spec, requests))
    return found


def alone(opened: LocalTeacher, wanted: list[QuestionRequests]) -> list[TeacherPath]:
    return [replace(path, question=one.question) for one in wanted for path in opened.answer(PREFIX, 0, one.requests, one.spec, 0)]


def ordered(paths):
    return sorted(paths, key=lambda path: (path.question, path.text_id, path.path))


def assert_same(paths: list[TeacherPath], others: list[TeacherPath]) -> None:
    def names(found):
        return [(p.question, p.text_id, p.path, p.seed, p.rationale) for p in found]

    paths, others = ordered(paths), ordered(others)
    assert names(paths) == names(others)
    for path, other in zip(paths, others, strict=True):
        np.testing.assert_allclose(path.word_logprobs, other.word_logprobs, **TOLERANCE)


@pytest.mark.parametrize("parallel", [24, 1])
@pytest.mark.parametrize(("mode", "n_paths"), [("direct", 1), ("cot", 3)])
def test_questions_that_share_a_text_have_the_paths_that_each_has_alone(engine, mode, n_paths, parallel):
    opened, wanted = teacher(engine, n_live_paths=parallel), asked(mode, n_paths)
    together = list(opened.answer_together(PREFIX, 0, wanted, 0))
    assert len(together) == len(TEXTS) * len(FIELDS) * n_paths
    assert_same(together, alone(opened, wanted))


def test_the_real_model_says_the_same_about_a_shared_text(half_floats):
    engine = LlamaEngine(half_floats)
    try:
        opened, wanted = teacher(engine), asked("direct")
        together, others = ordered(opened.answer_together(PREFIX, 0, wanted, 0)), ordered(alone(opened, wanted))
        for path, other in zip(together, others, strict=True):
            np.testing.assert_allclose(np.exp(path.word_logprobs), np.exp(other.word_logprobs), atol=0.02)
            np.testing.assert_allclose(path.word_logprobs, other.word_logprobs, atol=0.02, rtol=2e-3)
    finally:
        engine.close()


@pytest.fixture
def decoded(engine, monkeypatch) -> list[int]:
    """The number of tokens of every decode."""
    found, decode = [], engine.decode
    monkeypatch.setattr(engine, "decode", lambda tokens: found.append(len(tokens)) or decode(tokens))
    return found


@pytest.mark.parametrize("engine", ["dense"], indirect=True)
def test_what_the_questions_share_of_a_text_is_decoded_once(engine, decoded):
    opened, wanted = teacher(engine), asked("direct")
    paths = list(opened.answer_together(PREFIX, 0, wanted, 0))
    tokens = shared_tokens(engine, PREFIX, 0, wanted, 0)
    (texts,), _ = tokens.fitting(10_000)
    trunks = {text.parts[0].request.text_id: text.n_trunk for text in texts}
    n_words = len(TEXTS) * sum(len(word) - 1 for one in tokens.contexts for word in one.words.tokens)
    own = sum(path.n_prompt_tokens - trunks[path.text_id] for path in paths)
    assert sum(decoded) == len(tokens.shared) + sum(trunks.values()) + own + n_words
    assert own < sum(trunks.values())


@pytest.mark.parametrize("engine", ["dense"], indirect=True)
def test_each_question_of_a_text_that_is_too_long_is_told(engine):
    texts = ["up", "up and down " * 600]
    found = list(teacher(engine).answer_together(PREFIX, 0, asked("direct", texts=texts), 0))
    assert sorted((one.question, one.text_id) for one in found if isinstance(one, TooLong)) == [
        (key, "1") for key in sorted(FIELDS)
    ]
    assert sorted(one.question for one in found if isinstance(one, TeacherPath)) == sorted(FIELDS)


@pytest.mark.parametrize("engine", ["dense", "hybrid", "sliding"], indirect=True)
def test_a_text_that_leaves_a_full_cache_begins_anew_and_no_question_loses_a_path(engine, monkeypatch):
    evict, left = SharedTextScheduler._evict_youngest, []
    monkeypatch.setattr(SharedTextScheduler, "_evict_youngest", lambda self: left.append(evict(self)))
    texts = [" ".join((TEXTS[i % 4] * 8).split()[i : i + 45]) for i in range(4)]

    def drawn(n_cells: int) -> list[TeacherPath]:
        wanted = asked("cot", 3, texts)
        tokens = shared_tokens(engine, PREFIX, 0, wanted, 0)
        (waiting,), _ = tokens.fitting(10_000)
        engine.start(EngineConfig(n_cells=n_cells, n_batch=256, n_sequences=64))
        engine.config = replace(engine.config, n_cells=10_000)  # what the scheduler believes
        engine.decode([Token(t, i, PREFIX_SEQUENCE) for i, t in enumerate(tokens.shared)])
        scheduler = SharedTextScheduler(waiting, 64)
        paths = list(scheduler.paths())
        assert len(scheduler._free) == 63  # every sequence came back
        return paths

    narrow, wide = ordered(drawn(256)), ordered(drawn(1024))
    assert left
    assert [(p.question, p.text_id, p.path) for p in narrow] == [(p.question, p.text_id, p.path) for p in wide]
    alike = [(a, b) for a, b in zip(narrow, wide, strict=True) if a.rationale == b.rationale]
    assert len(alike) >= len(wide) - 3  # other texts in the same decode change a logit's last bits, and so a draw now and then
    assert_same([a for a, _ in alike], [b for _, b in alike])


@pytest.mark.parametrize("engine", ["dense"], indirect=True)
def test_more_questions_than_fit_into_a_context_together_are_asked_in_groups(engine, monkeypatch):
    monkeypatch.setattr("potstill.labeler.engine.shared_texts.MAX_SEQUENCES", 4)
    opened, wanted = teacher(engine), asked("direct")
    assert_same(list(opened.answer_together(PREFIX, 0, wanted, 0)), alone(opened, wanted))


def test_groups_keep_the_order_and_none_is_too_large():
    assert packed([100, 100, 100, 30, 300]) == [range(2), range(2, 4), range(4, 5)]
