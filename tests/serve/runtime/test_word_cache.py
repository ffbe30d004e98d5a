from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from support.attacks.odd_texts import LONG_SPECIAL, MAX_TOKENS, readable, texts, wordpiece
from tokenizers import normalizers

from potstill.serve.runtime.word_cache import MAX_CHARS, WordCache

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", LONG_SPECIAL]
N_CHARS = 8 * MAX_TOKENS
WORDS = ["The", "price", "will", "RISE!", "fa\x01ll", "cafés", "don't", "股票🚀up", "x.y", "a\u0301b", "(the)", "\u00a0the", "___"]


def opened(*, lowercase: bool = True):
    whole = wordpiece()
    whole.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    whole.enable_truncation(MAX_TOKENS)
    return whole, WordCache(whole, MAX_TOKENS, SPECIAL, lowercase=lowercase)


@pytest.fixture(scope="module")
def pair():
    return opened()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts)
def test_the_ids_are_the_tokenizers_or_it_is_asked(pair, text):
    whole, words = pair
    found = words.ids(readable(text), N_CHARS)
    assert found is None or found == whole.encode(readable(text)).ids


@pytest.mark.parametrize("lowercase", [True, False])
def test_most_texts_are_answered_from_memory_whatever_their_case(lowercase):
    whole, words = opened(lowercase=lowercase)
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 30, 200):
        for _ in range(40):
            text = rng.choice([" ", "\t", "\n", "  ", "\r\n"]).join(rng.choice(WORDS, n))
            found = words.ids(text, N_CHARS)
            assert found == whole.encode(text).ids


@pytest.mark.parametrize("text", ["the [MASK] will", f"up {LONG_SPECIAL}", "a" * (MAX_CHARS + 1), "the " + "é" * (MAX_CHARS + 1)])
def test_what_could_be_read_otherwise_is_left_to_the_tokenizer(pair, text):
    assert pair[1].ids(text, N_CHARS) is None
    assert pair[1].ids("[the] <price>", N_CHARS) is not None  # brackets alone are marks like any other


def test_a_special_token_across_the_cut_is_seen(pair):
    text = "up " * 40 + LONG_SPECIAL + " the price" * 50
    assert pair[1].ids(text[: N_CHARS + 128], N_CHARS) is None


def test_it_forgets_the_words_that_nobody_used_and_stays_right(monkeypatch):
    monkeypatch.setattr("potstill.serve.runtime.word_cache.MAX_KNOWN", 8)
    whole, words = opened()
    for i in range(400):
        text = f"the price {i} will"
        assert words.ids(text, N_CHARS) == whole.encode(text).ids
        assert len(words._known) <= 8 and len(words._older) <= 8
    assert "the" in {*words._known, *words._older}


def test_threads_may_share_a_memory(monkeypatch):
    monkeypatch.setattr("potstill.serve.runtime.word_cache.MAX_KNOWN", 16)
    whole, words = opened()
    asked = [f"{a} {b} {i % 50}" for i, (a, b) in enumerate(zip(WORDS * 60, reversed(WORDS * 60), strict=True))]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: words.ids(text, N_CHARS), asked))
    assert found == [whole.encode(text).ids for text in asked]


def test_one_odd_character_leaves_the_other_words_as_they_are(pair):
    assert pair[1].ids("!" * 100 + "é", 10**6) == pair[0].encode("!" * 100 + "é").ids
    whole = pair[1]._split("! " * 50_000 + "é")
    assert len(whole) == 50_001
