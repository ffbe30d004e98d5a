"""Every kind of memory that llama.cpp has, in tiny random models: what many sequences say is what one sequence alone says."""

import re
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from support.teachers.llama_reference import SingleSequence
from support.teachers.tiny_gguf import KINDS

from potstill.contract.errors import UserError
from potstill.labeler.config import LocalConfig
from potstill.labeler.engine.llama import EngineConfig, LlamaEngine, NoContextError, Token
from potstill.labeler.engine.llama_bindings import capture_log
from potstill.labeler.engine.tokens import PromptTokens
from potstill.labeler.teacher import AnswerSpec, Identity, PathRequest, TeacherPath
from potstill.labeler.teachers.local import LocalTeacher

pytestmark = pytest.mark.slow

TEXTS = [
    "Loaded up on calls before the print.",
    "anyone know when they report?",
    "Sold it all. Dead money, worse management 😞",
    "up",
]
WORDS = ("positive", "neutral", "going down the drain")
PREFIX = "Post: up 20% and buying more\nSentiment: positive\n\nPost: awful quarter, I sold\nSentiment: negative\n\n"
TOLERANCE = {"atol": 0.01, "rtol": 0}  # nats
STATED = {"n_threads": 1, "n_batch": 512, "n_live_paths": 24, "flash_attention": False}


@pytest.fixture(params=KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(tiny_models: dict[str, Path], kind: str) -> Path:
    return tiny_models[kind]


@pytest.fixture(scope="module")
def engine(model: Path):
    engine = LlamaEngine(model)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def alone(model: Path):
    # Prompts that nothing is sampled after are always decoded with flash attention.
    sequences = {mode: SingleSequence(model, flash_attention=mode == "direct") for mode in ("direct", "cot")}
    yield sequences
    for sequence in sequences.values():
        sequence.close()


@pytest.fixture
def n_tokens(engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One number: of the tokens that the engine decodes from now on."""
    decode, count = engine.decode, [0]

    def counting(tokens):
        count[0] += len(tokens)
        return decode(tokens)

    monkeypatch.setattr(engine, "decode", counting)
    return count


def requests(mode: str, paths: int) -> list[PathRequest]:
    cue = "Sentiment:" if mode == "direct" else "Opinion:"
    return [PathRequest(str(i), f"Post: {text}\n{cue}", tuple(range(paths))) for i, text in enumerate(TEXTS)]


def spec(mode: str) -> AnswerSpec:
    return AnswerSpec(mode, WORDS, "Opinion:", "Sentiment:", temperature=0.5, max_rationale_tokens=12)  # type: ignore[arg-type]


def teacher(engine: LlamaEngine, **config: Any) -> LocalTeacher:
    return LocalTeacher(engine, Identity("tiny", "d", "d", engine.build()), LocalConfig(**(STATED | config)))


def drawn(opened: LocalTeacher, mode: str, paths: int = 1) -> list[TeacherPath]:
    results = list(opened.answer(PREFIX, 0, requests(mode, paths), spec(mode), run_seed=0))
    assert all(isinstance(result, TeacherPath) for result in results)
    return sorted(results, key=lambda path: (int(path.text_id), path.path))


def expected(alone: dict[str, SingleSequence], path: TeacherPath, mode: str) -> list[float]:
    """What one sequence says of the same text and rationale."""
    rationale = f" {path.rationale}" if path.rationale else ""
    text = PREFIX + requests(mode, 1)[int(path.text_id)].prompt + (f"{rationale}\nSentiment:" if mode == "cot" else "")
    return alone[mode].logprobs(text, WORDS)


def assert_same(paths: list[TeacherPath], others: list[TeacherPath]) -> None:
    assert [(p.text_id, p.path, p.rationale) for p in paths] == [(p.text_id, p.path, p.rationale) for p in others]
    np.testing.assert_allclose([p.word_logprobs for p in paths], [p.word_logprobs for p in others], **TOLERANCE)


@pytest.mark.parametrize("n_live_paths", [24, 1])  # 1: one at a time, in a context of one sequence
def test_direct_reads_the_probabilities_that_one_sequence_alone_has(engine, alone, n_live_paths):
    for path in drawn(teacher(engine, n_live_paths=n_live_paths), "direct"):
        np.testing.assert_allclose(path.word_logprobs, expected(alone, path, "direct"), **TOLERANCE)


@pytest.mark.parametrize("config", [{}, {"n_live_paths": 5, "n_batch": 7}, {"n_live_paths": 1}], ids=str)
def test_every_sampled_path_is_read_as_one_sequence_alone_reads_it(engine, alone, config):
    paths = drawn(teacher(engine, **config), "cot", paths=4)
    assert [(path.text_id, path.path) for path in paths] == [(str(i), n) for i in range(len(TEXTS)) for n in range(4)]
    assert len({path.rationale for path in paths}) > len(TEXTS)  # the paths do branch
    for path in {(path.text_id, path.rationale): path for path in paths}.values():
        np.testing.assert_allclose(path.word_logprobs, expected(alone, path, "cot"), **TOLERANCE)


@pytest.mark.parametrize("n_live_paths", [24, 1])
def test_sequences_that_were_freed_leave_nothing_behind(engine, n_live_paths):
    opened = teacher(engine, n_live_paths=n_live_paths)
    first = drawn(opened, "cot", paths=3)
    assert_same(drawn(opened, "cot", paths=3), first)  # in the same context, over the same prefix


@pytest.mark.parametrize("n_live_paths", [24, 1])
def test_a_prefix_from_disk_is_as_good_as_a_decoded_one(engine, n_tokens, tmp_path, n_live_paths):
    decoded = drawn(teacher(engine, cache=tmp_path, n_live_paths=n_live_paths), "cot", paths=3)
    assert len(list(tmp_path.glob("*.kv"))) == 1
    n_decoded = n_tokens[0]
    restored = drawn(teacher(engine, cache=tmp_path, n_live_paths=n_live_paths), "cot", paths=3)
    assert_same(restored, decoded)
    n_prefix = 2 * n_decoded - n_tokens[0]
    assert (
        engine.tokenize(PREFIX)[:n_prefix]
        == PromptTokens(engine, PREFIX, [r.prompt for r in requests("cot", 1)], spec("cot")).shared
    )


def test_one_at_a_time_decodes_no_token_twice(engine, n_tokens):
    together = drawn(teacher(engine), "cot", paths=4)
    n_together = n_tokens[0]
    assert_same(drawn(teacher(engine, n_live_paths=1), "cot", paths=4), together)
    assert n_tokens[0] == 2 * n_together


def logits_after(engine: LlamaEngine, tokens: list[int], position: int, sequence: int) -> np.ndarray:
    engine.decode([Token(t, position + i, sequence, wants_logits=i == len(tokens) - 1) for i, t in enumerate(tokens)])
    return engine.logits(len(tokens) - 1).copy()


def test_a_state_goes_on_in_another_sequence_of_another_context(engine):
    tokens = engine.tokenize(PREFIX)
    engine.start(EngineConfig(n_cells=256, n_batch=256, n_sequences=3))
    engine.decode([Token(t, i, 2) for i, t in enumerate(tokens)])
    state = engine.state(2)
    wanted = logits_after(engine, tokens[:3], len(tokens), 2)
    engine.start(EngineConfig(n_cells=512, n_batch=256, n_sequences=8))
    engine.decode([Token(t, i, 0) for i, t in enumerate(tokens[::-1])])
    assert engine.restore(state, 5)
    np.testing.assert_allclose(logits_after(engine, tokens[:3], len(tokens), 5), wanted, atol=1e-3)


def test_a_state_that_is_none_is_refused_and_changes_nothing(engine):
    tokens = engine.tokenize(PREFIX)
    engine.start(EngineConfig(n_cells=256, n_batch=256, n_sequences=3))
    engine.decode([Token(t, i, 0) for i, t in enumerate(tokens)])
    state = engine.state(0)
    engine.fork(0, 1)
    wanted = logits_after(engine, tokens[:3], len(tokens), 1)
    for damaged in (state[:-9], bytes(len(state)), b""):
        assert not engine.restore(damaged, 2)
    engine.free(1)
    engine.fork(0, 1)
    np.testing.assert_allclose(logits_after(engine, tokens[:3], len(tokens), 1), wanted, atol=1e-3)


@pytest.mark.parametrize("kind", ["dense"], indirect=True)
class TestMessages:
    def test_more_sequences_than_llama_cpp_has_are_refused_in_its_words(self, engine, model):
        with pytest.raises(NoContextError) as caught:
            engine.start(EngineConfig(n_cells=512, n_batch=512, n_sequences=300))
        assert str(caught.value) == (
            f"{model}: no context of 512 tokens and 300 sequences (llama_init_from_model: failed to initialize the context: "
            "n_seq_max must be <= 256); free memory or lower --parallel"
        )

    def test_a_decode_that_llama_cpp_refuses_says_why_and_what_is_kept(self, engine):
        engine.start(EngineConfig(n_cells=256, n_batch=256, n_sequences=3))
        with pytest.raises(UserError) as caught:
            engine.decode([Token(engine.n_vocab, 0, 1)])
        assert str(caught.value) == (
            f"llama.cpp could not decode (-1: init: invalid token[0] = {engine.n_vocab}; decode: failed to initialize batch; "
            "llama_decode: failed to decode, ret = -1); paths drawn before are kept, and the same command goes on"
        )

    def test_the_words_are_those_of_this_failure_not_of_an_earlier_one(self, engine):
        engine.start(EngineConfig(n_cells=256, n_batch=256, n_sequences=3))
        with pytest.raises(UserError):
            engine.decode([Token(engine.n_vocab, 0, 1)])
        with pytest.raises(UserError) as caught:
            engine.decode([])
        assert "invalid token" not in str(caught.value)


def test_an_encoder_is_no_teacher(tiny_models):
    path = tiny_models["encoder"]
    with pytest.raises(UserError) as caught:
        LlamaEngine(path)
    assert str(caught.value) == f"{path}: is an encoder, which reads texts and writes none; a teacher is a model that writes"


def test_the_size_of_the_cache_is_what_llama_cpp_says_of_it(smollm2):
    lines = []

    @llama_cpp.llama_log_callback
    def listen(_level, text, _data):
        lines.append(text.decode())

    engine = LlamaEngine(smollm2)
    try:
        assert engine.cache_bytes == 0
        llama_cpp.llama_log_set(listen, None)
        engine.start(EngineConfig(n_cells=768, n_sequences=4))
        capture_log()
        (mebibytes,) = re.findall(r"size = +([\d.]+) MiB \( *768 cells", "".join(lines))
        assert engine.cache_bytes / 2**20 == pytest.approx(float(mebibytes), abs=0.005)  # it rounds
    finally:
        capture_log()
        engine.close()
    assert engine.cache_bytes == 0
