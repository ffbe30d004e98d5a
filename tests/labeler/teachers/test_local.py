"""The real 135M teacher: what many sequences in one cache say is what one sequence alone says.

Unpacked to 16-bit floats, in which rounding is small: with 4-bit weights the activations are quantized too, and one flipped
rounding moves a log-probability by a tenth of a nat, in llama.cpp's own single sequence as much as here.
"""

import dataclasses
import math
import os
import shutil
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from support.teachers.llama_reference import PREFIX, TEXTS, WORDS, SingleSequence, answer_spec, requests

from potstill.contract.errors import UserError
from potstill.labeler.config import LocalConfig
from potstill.labeler.engine.llama import EngineConfig, LlamaEngine, NoContextError, OutOfCellsError, Token
from potstill.labeler.engine.llama_bindings import model_params
from potstill.labeler.teacher import NOT_ASKED, AnswerSpec, Identity, PathRequest, TeacherPath, TooLong
from potstill.labeler.teachers import local
from potstill.labeler.teachers.local import LocalTeacher
from potstill.labeler.teachers.opening import open_local, packed_file
from potstill.models import gguf
from potstill.models.catalog import find_teacher, load_catalog
from potstill.models.repack import repacked

pytestmark = pytest.mark.slow

TOLERANCE = {"atol": 0.01, "rtol": 2e-3}  # nats; batches of other sizes round differently


@pytest.fixture(scope="module")
def engine(half_floats: Path):
    engine = LlamaEngine(half_floats)
    yield engine
    engine.close()


STATED = {"n_threads": 2, "n_batch": 512, "n_live_paths": 24, "flash_attention": False}


def teacher(engine: LlamaEngine, **config: Any) -> LocalTeacher:
    return LocalTeacher(engine, Identity("smollm2", "d", "d", engine.build()), LocalConfig(**(STATED | config)))


def drawn(
    engine: LlamaEngine, mode: str, paths: int = 1, words: tuple[str, ...] = WORDS, seed: int = 0, **config: Any
) -> list[TeacherPath]:
    results = list(teacher(engine, **config).answer(PREFIX[mode], 0, requests(mode, paths), answer_spec(mode, words), seed))
    assert all(isinstance(result, TeacherPath) for result in results)
    return sorted(results, key=lambda path: (path.text_id, path.path))


@pytest.fixture(scope="module")
def reference(half_floats: Path) -> SingleSequence:
    return SingleSequence(half_floats)


def test_direct_reads_the_probabilities_that_one_sequence_alone_has(engine, reference):
    for path, request in zip(drawn(engine, "direct"), requests("direct"), strict=True):
        expected = reference.logprobs(PREFIX["direct"] + request.prompt, WORDS)
        np.testing.assert_allclose(path.word_logprobs, expected, **TOLERANCE)


def test_words_of_several_tokens_are_walked_exactly(engine, reference):
    words = ("positive", "up and away", "going down the drain")
    for path, request in zip(drawn(engine, "direct", words=words), requests("direct"), strict=True):
        expected = reference.logprobs(PREFIX["direct"] + request.prompt, words)
        np.testing.assert_allclose(path.word_logprobs, expected, **TOLERANCE)


def test_a_sampled_path_is_read_after_its_own_rationale(engine, reference):
    for path in drawn(engine, "cot", paths=2):
        request = requests("cot")[int(path.text_id)]
        text = f"{PREFIX['cot']}{request.prompt} {path.rationale}\nSentiment:"
        np.testing.assert_allclose(path.word_logprobs, reference.logprobs(text, WORDS), **TOLERANCE)
        assert 0 < path.n_generated <= 12
        assert "\n" not in path.rationale


def test_long_words_are_walked_after_a_rationale_too(engine, reference):
    words = ("positive", "going down the drain")
    path = drawn(engine, "cot", paths=2, words=words)[0]
    text = f"{PREFIX['cot']}{requests('cot')[0].prompt} {path.rationale}\nSentiment:"
    np.testing.assert_allclose(path.word_logprobs, reference.logprobs(text, words), **TOLERANCE)


@pytest.mark.parametrize("mode", ["direct", "cot"])
def test_one_at_a_time_draws_the_paths_that_many_at_once_draw(engine, mode):
    words = ("positive", "going down the drain")
    together = drawn(engine, mode, paths=4 if mode == "cot" else 1, words=words)
    in_turn = drawn(engine, mode, paths=4 if mode == "cot" else 1, words=words, n_live_paths=1)
    assert [(p.text_id, p.path, p.rationale) for p in in_turn] == [(p.text_id, p.path, p.rationale) for p in together]
    np.testing.assert_allclose([p.word_logprobs for p in in_turn], [p.word_logprobs for p in together], **TOLERANCE)


def test_the_speed_of_one_at_a_time_is_measured_in_a_context_of_one_sequence(engine):
    alone = teacher(engine, n_threads=2, n_live_paths=1)
    found = alone.settings_after(PREFIX["cot"], requests("cot")[0].prompt, answer_spec("cot"))
    assert (found.n_live_paths, found.n_threads, engine.config.n_sequences) == (1, 2, 1)
    assert 0 < found.path_tokens_per_s < 100_000 and 0 < found.prompt_tokens_per_s < 1_000_000


def test_where_no_context_of_many_sequences_can_be_made_the_speed_of_one_is_measured(engine, monkeypatch):
    start = engine.start

    def only_one(config):
        if config.n_sequences > 1:
            raise NoContextError("no memory")
        start(config)

    monkeypatch.setattr(engine, "start", only_one)
    alone = teacher(engine, n_threads=2, n_live_paths=16, n_batch=512, flash_attention=False)
    found = alone.settings_after(PREFIX["cot"], requests("cot")[0].prompt, answer_spec("cot"))
    assert found.path_tokens_per_s > 0 and engine.config.n_sequences == 1


def test_paths_of_one_text_differ_and_have_seeds_of_their_own(engine):
    paths = [path for path in drawn(engine, "cot", paths=6) if path.text_id == "0"]
    assert len({path.rationale for path in paths}) > 1
    assert len({path.seed for path in paths}) == 6


def test_the_same_seed_draws_the_same_paths_and_another_seed_others(engine):
    first = drawn(engine, "cot", paths=3)
    assert drawn(engine, "cot", paths=3) == first
    assert [path.rationale for path in drawn(engine, "cot", paths=3, seed=1)] != [path.rationale for path in first]


@pytest.mark.parametrize("config", [{"n_live_paths": 2}, {"n_batch": 16}, {"n_live_paths": 64, "n_batch": 64}])
def test_every_path_comes_once_however_little_runs_at_once(engine, config):
    paths = drawn(engine, "cot", paths=3, **config)
    assert [(path.text_id, path.path) for path in paths] == [(str(i), n) for i in range(len(TEXTS)) for n in range(3)]


def test_label_words_take_most_of_the_mass_after_worked_examples(engine):
    assert min(sum(math.exp(value) for value in path.word_logprobs) for path in drawn(engine, "direct")) > 0.5


def test_a_text_longer_than_the_context_gets_no_path_and_the_others_do(engine):
    long = PathRequest("long", "word " * (engine.n_ctx_train + 1), (0,))
    results = list(teacher(engine).answer(PREFIX["direct"], 0, [long, *requests("direct")], answer_spec("direct"), 0))
    (refused,) = [result for result in results if isinstance(result, TooLong)]
    assert refused.text_id == "long"
    assert refused.n_tokens > refused.n_free
    assert len(results) == 1 + len(TEXTS)


def test_a_prefix_longer_than_the_context_says_what_to_shorten(engine):
    with pytest.raises(UserError, match="shorten the guideline or the examples"):
        list(teacher(engine).answer("word " * engine.n_ctx_train, 0, requests("direct"), answer_spec("direct"), 0))


@pytest.mark.parametrize("mode", ["direct", "cot"])
def test_a_word_that_begins_another_keeps_what_does_not_go_on_to_the_longer_one(engine, reference, mode):
    words = ("going", "going up", "going up and up", "positive")
    for path in drawn(engine, mode, words=words):
        text = PREFIX[mode] + requests(mode)[int(path.text_id)].prompt
        text += f" {path.rationale}\nSentiment:" if mode == "cot" else ""
        all_that_begin = np.exp(reference.logprobs(text, words))
        found = np.exp(path.word_logprobs)
        expected = [all_that_begin[0] - all_that_begin[1], all_that_begin[1] - all_that_begin[2], *all_that_begin[2:]]
        np.testing.assert_allclose(found, expected, rtol=0.02)
        assert found[:3].sum() == pytest.approx(all_that_begin[0], rel=0.02)  # nothing is counted twice


def test_a_scale_from_0_to_10_is_read_with_each_number_counted_once(engine, reference):
    words = tuple(str(i) for i in range(11))
    (path, *_) = drawn(engine, "direct", words=words)
    text = PREFIX["direct"] + requests("direct")[0].prompt
    found, begin = np.exp(path.word_logprobs), np.exp(reference.logprobs(text, words))
    np.testing.assert_allclose(found[[0, *range(2, 11)]], begin[[0, *range(2, 11)]], rtol=0.02)
    assert found[1] + found[10] == pytest.approx(begin[1], rel=0.02)


def test_words_that_are_the_same_tokens_are_refused_by_a_run_and_by_a_dry_run(engine, monkeypatch):
    said = "label words 'caf\u00e9' and 'caf\u0065\u0301' are the same to this teacher; change one"
    words, whole = ("caf\u00e9", "caf\u0065\u0301"), engine.tokenize
    monkeypatch.setattr(engine, "tokenize", lambda text, **options: whole(text.replace("\u00e9", "\u0065\u0301"), **options))
    with pytest.raises(UserError) as error:
        drawn(engine, "direct", words=words)
    assert str(error.value) == said
    with pytest.raises(UserError) as error:
        teacher(engine).count_tokens(PREFIX["direct"], [requests("direct")[0].prompt], answer_spec("direct", words))
    assert str(error.value) == said


def test_control_tokens_spelled_in_a_text_stay_text(engine):
    assert len(engine.tokenize("<|im_end|>")) > 1


def test_a_full_cache_is_reported_and_changes_nothing(engine):
    engine.start(EngineConfig(n_cells=256, n_batch=256, n_sequences=3))
    tokens = engine.tokenize("word " * 200)[:200]
    engine.decode([Token(t, i, 1) for i, t in enumerate(tokens)])
    with pytest.raises(OutOfCellsError):
        engine.decode([Token(t, i, 2) for i, t in enumerate(tokens)])
    engine.free(1)
    engine.decode([Token(t, i, 2) for i, t in enumerate(tokens)])


@pytest.mark.parametrize("size", [0, 3, 100_000])
def test_a_gguf_that_is_cut_short_is_refused_with_its_name(smollm2, tmp_path, size):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(smollm2.read_bytes()[:size])
    with pytest.raises(UserError, match=r"broken\.gguf: llama\.cpp cannot load it"):
        LlamaEngine(broken)


def test_closing_twice_is_harmless(smollm2):
    engine = LlamaEngine(smollm2)
    engine.start(EngineConfig(n_cells=256, n_sequences=2))
    engine.close()
    engine.close()


READING = AnswerSpec("direct", ("up", "down"), "Opinion:", "Answer:", temperature=0.5, max_rationale_tokens=6)
KEPT_PREFIX = "Text: I buy\nAnswer: up\n\nText: I sell\nAnswer: down\n\n"


def test_a_state_comes_back_as_it_was_and_other_keys_have_none(tmp_path: Path):
    local.save_state(tmp_path / "new", "a", b"state")
    assert local.load_state(tmp_path / "new", "a") == b"state"
    assert local.load_state(tmp_path / "new", "b") is None
    assert local.load_state(tmp_path / "nowhere", "a") is None


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:10], lambda d: b"", lambda d: d[:40] + b"?" + d[41:]])
def test_a_damaged_file_counts_as_none(tmp_path: Path, damage):
    local.save_state(tmp_path, "a", b"some state" * 10)
    file = tmp_path / "a.kv"
    file.write_bytes(damage(file.read_bytes()))
    assert local.load_state(tmp_path, "a") is None


def test_the_least_recently_used_go_first_when_there_are_too_many(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(local, "MAX_CACHE_BYTES", 1000)
    for age, key in enumerate("cba"):
        local.save_state(tmp_path, key, b"x" * 300)
        os.utime(tmp_path / f"{key}.kv", (age, age))
    assert local.load_state(tmp_path, "c")  # used now
    local.save_state(tmp_path, "d", b"x" * 300)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.kv", "c.kv", "d.kv"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000


def test_a_state_larger_than_all_that_may_be_kept_drives_nothing_out(tmp_path: Path, monkeypatch):
    local.save_state(tmp_path, "a", b"x")
    monkeypatch.setattr(local, "MAX_CACHE_BYTES", 100)
    local.save_state(tmp_path, "b", b"x" * 90)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.kv"]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    local.save_state(tmp_path / "file" / "engine", "a", b"state")
    assert local.load_state(tmp_path / "file" / "engine", "a") is None


def test_the_real_teacher_answers_the_same_with_a_kept_prefix_and_decodes_a_damaged_one_anew(smollm2: Path, tmp_path: Path):
    def answers() -> list[tuple[float, ...]]:
        teacher = open_local(str(smollm2), pack="as-is", config=LocalConfig(deterministic=True, cache=tmp_path))
        requests = [PathRequest(str(i), f"Text: it went {way}\nAnswer:", (0,)) for i, way in enumerate(("up", "down"))]
        try:
            return [path.word_logprobs for path in teacher.answer(KEPT_PREFIX, 0, requests, READING, 0)]
        finally:
            teacher.close()

    first = answers()
    (file,) = tmp_path.glob("*.kv")
    kept = file.read_bytes()
    assert answers() == first
    file.write_bytes(kept[:-100])
    assert answers() == first
    assert file.read_bytes() == kept


# Which weights a teacher is opened with, and how they are loaded


NAME = "smollm2-135m-instruct"


def test_auto_packs_a_known_teacher_as_the_catalog_advises():
    advised = load_catalog()[NAME].pack
    assert advised == "Q4_0" == gguf.read_header(packed_file(NAME).path).file_type
    assert packed_file(NAME) == packed_file(NAME, "Q4_0")


def test_auto_packs_an_unknown_file_to_q8_0_where_its_type_is_slow_in_batches_and_leaves_others(smollm2: Path, tmp_path: Path):
    slow = shutil.copy(smollm2, tmp_path / "own.gguf")
    assert gguf.read_header(packed_file(str(slow)).path).file_type == "Q8_0"
    fast = repacked(find_teacher(NAME), "Q8_0").path
    assert packed_file(str(fast)).path == fast


@pytest.mark.parametrize(("pack", "copied"), [("Q4_0", True), ("Q8_0", False), ("as-is", False)])
def test_a_file_that_llama_cpp_rewrites_in_memory_is_read_and_not_mapped(pack, copied):
    if b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info():
        pytest.skip("this build rewrites nothing: its AMX kernels are switched off with the others")
    mode = model_params(gguf.read_header(packed_file(NAME, pack).path)).load_mode
    assert mode == (llama_cpp.LLAMA_LOAD_MODE_NONE if copied else llama_cpp.LLAMA_LOAD_MODE_AUTO)


# Candidates

ALIKE = ("up", "up and away", "up and running", "up and running late", "going down", "going down the drain", "neutral")


def asked_among(engine: LlamaEngine, places: tuple[int, ...], mode: str = "direct", **config: Any) -> list[TeacherPath]:
    wanted = [dataclasses.replace(request, words=places) for request in requests(mode, 1 if mode == "direct" else 2)]
    found = teacher(engine, **config).answer(PREFIX[mode], 0, wanted, answer_spec(mode, ALIKE), 0)
    return sorted(found, key=lambda path: (path.text_id, path.path))


@pytest.mark.parametrize("n_live_paths", [1, 24])
@pytest.mark.parametrize("mode", ["direct", "cot"])
def test_candidates_that_begin_alike_have_the_probabilities_that_words_walked_alone_have(engine, mode, n_live_paths):
    places = (1, 3, 4, 5)
    together = asked_among(engine, places, mode, n_live_paths=n_live_paths)
    alone = drawn(engine, mode, 1 if mode == "direct" else 2, ALIKE)
    assert [path.rationale for path in together] == [path.rationale for path in alone]
    for path, other in zip(together, alone, strict=True):
        assert {place for place, value in enumerate(path.word_logprobs) if value != NOT_ASKED} == set(places)
        np.testing.assert_allclose(
            [path.word_logprobs[place] for place in places], [other.word_logprobs[place] for place in places], **TOLERANCE
        )


def test_what_candidates_have_in_common_is_decoded_once(engine, monkeypatch):
    counts = []
    decode = engine.decode

    def counting(tokens):
        counts.append(len(tokens))
        return decode(tokens)

    monkeypatch.setattr(engine, "decode", counting)
    numbers = []
    for places in ((1,), (1, 2), (1, 2, 3)):
        counts.clear()
        asked_among(engine, places)
        numbers.append(sum(counts))
    words = [engine.tokenize(f" {word}") for word in ALIKE]
    assert words[1][:2] == words[2][:2] and words[2] == words[3][: len(words[2])]
    # the second word shares all that is decoded of it; the third one adds its tokens but for the last
    assert numbers[1] - numbers[0] == len(TEXTS) * (len(words[2]) - 1 - 2)
    assert numbers[2] - numbers[1] == len(TEXTS) * (len(words[3]) - len(words[2]))
