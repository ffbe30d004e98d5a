from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.attacks.odd_texts import (
    LETTERS,
    LONG_SPECIAL,
    MARKS,
    MAX_TOKENS,
    OTHERS,
    characters,
    readable,
    texts,
    wordpiece,
)
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from potstill.contract.errors import FormatError, UserError
from potstill.serve.runtime.tokenizer import MAX_TARGET_CHARS, TextTokenizer

pytestmark = pytest.mark.slow


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "a"), ("aa", "aa"), ("Ġ", "Ġ"), ("i", "n"), ("in", "g")]
    vocabulary = {piece: index for index, piece in enumerate(["<s>", "</s>", *alphabet, *(left + right for left, right in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<s>", "</s>", LONG_SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


def unigram() -> Tokenizer:
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -2.0), ("▁the", -3.0), ("ing", -3.5), ("ab", -3.0)]
    tokenizer = Tokenizer(
        models.Unigram([*pieces, *((one, -5.0 - i / 10) for i, one in enumerate(LETTERS + MARKS + OTHERS))], unk_id=0)
    )
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.add_special_tokens(["<s>", "</s>", LONG_SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


TOKENIZERS = {"wordpiece": wordpiece(), "byte_level": byte_level(), "unigram": unigram()}
CUT = {name: TextTokenizer(tokenizer.to_str().encode(), MAX_TOKENS) for name, tokenizer in TOKENIZERS.items()}
for whole in TOKENIZERS.values():
    whole.enable_truncation(MAX_TOKENS)


@pytest.mark.parametrize("name", list(TOKENIZERS))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts)
def test_a_cut_text_has_the_tokens_of_the_whole_text(name, text):
    assert CUT[name].ids(text)["input_ids"][0].tolist() == TOKENIZERS[name].encode(readable(text)).ids


@pytest.mark.parametrize("name", list(TOKENIZERS))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts, target=st.text(characters, min_size=1, max_size=60))
def test_a_cut_pair_has_the_tokens_of_the_whole_pair(name, text, target):
    found, whole = CUT[name].ids(text, target), TOKENIZERS[name].encode(readable(text), readable(target))
    assert found["input_ids"][0].tolist() == whole.ids
    assert found["token_type_ids"][0].tolist() == whole.type_ids


@pytest.mark.parametrize("name", list(TOKENIZERS))
@pytest.mark.parametrize(
    "straddling",
    [LONG_SPECIAL, " ", "x" * 60 + "\u200b" * 140 + "x" * 60, "e" + "\u0301" * 140 + "x", "the" + " " * 150 + "</s>"],
    ids=["special", "space", "word", "marks", "spaces"],
)
def test_whatever_the_first_cut_falls_into_the_tokens_stay(name, straddling):
    for n_before in range(102, 130, 2):  # the first prefix ends at character 128
        text = ("up " * 10).ljust(n_before) + straddling + " the price will rise" * 5
        assert CUT[name].ids(text)["input_ids"][0].tolist() == TOKENIZERS[name].encode(text).ids
    for n_before in range(360, 512, 9):  # and the second one at 512
        text = ("up " * 10).ljust(120) + ("\u200b" * (n_before - 120)) + straddling + " the price will rise" * 5
        assert CUT[name].ids(text)["input_ids"][0].tolist() == TOKENIZERS[name].encode(text).ids


HUGE = 60_000
MOST_READ = 3_000  # characters that the tokenizer may be given of a text of HUGE, all attempts together


class Counting:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer):
        self._tokenizer, self.n_chars = tokenizer, 0

    def encode(self, text):
        self.n_chars += len(text)
        return self._tokenizer.encode(text)

    def encode_batch(self, texts):
        self.n_chars += sum(map(len, texts))
        return self._tokenizer.encode_batch(texts)

    def encode_batch_fast(self, texts):
        self.n_chars += sum(map(len, texts))
        return self._tokenizer.encode_batch_fast(texts)


def ids_and_chars_read(name, text, monkeypatch):
    counting = Counting(CUT[name]._tokenizer)
    monkeypatch.setattr(CUT[name], "_tokenizer", counting)
    return CUT[name].ids(text)["input_ids"][0].tolist(), counting.n_chars


@pytest.mark.parametrize(
    "text",
    [
        "a" * HUGE + " will rise",
        "the " + "ab" * (HUGE // 2) + " will rise",
        "я" * HUGE + "!",
        "한글" * (HUGE // 2) + " up",
        "あ" * HUGE + "中",
        "中" * HUGE,
        " " * HUGE + "up",
        " \n" * (HUGE // 2) + "up",
        "\0" * HUGE + "up",
        "\u200b" * HUGE + "up",
        "e" + "\u0301" * HUGE + " up",
        "!" * HUGE,
        "🚀" * HUGE,
        "[CLS" + "x" * HUGE + "[SEP]",
        "the price will rise. " * (HUGE // 20),
    ],
    ids=lambda text: ascii(text[:8]),
)
def test_of_a_huge_word_or_text_little_is_tokenized_and_the_tokens_stay(text, monkeypatch):
    found, n_chars = ids_and_chars_read("wordpiece", text, monkeypatch)
    assert n_chars < MOST_READ
    assert found == TOKENIZERS["wordpiece"].encode(text).ids


@pytest.mark.parametrize("name", ["byte_level", "unigram"])
def test_a_huge_word_of_another_tokenizer_is_cut_too(name, monkeypatch):
    text = "thea" + "ab" * (HUGE // 2)
    found, n_chars = ids_and_chars_read(name, text, monkeypatch)
    assert n_chars < MOST_READ
    assert len(found) == MAX_TOKENS
    assert found == TOKENIZERS[name].encode(text).ids


def test_feeds_are_int64_rows_of_one_text_and_only_those_that_the_graph_takes():
    feeds = TextTokenizer(wordpiece().to_str().encode(), MAX_TOKENS, ["input_ids", "attention_mask"]).ids("up")
    assert {name: (value.dtype, value.shape) for name, value in feeds.items()} == {
        "input_ids": (np.int64, (1, 3)),
        "attention_mask": (np.int64, (1, 3)),
    }
    assert feeds["attention_mask"].tolist() == [[1, 1, 1]]


def test_padding_in_the_file_is_not_used():
    tokenizer = wordpiece()
    tokenizer.enable_padding(length=40)
    assert TextTokenizer(tokenizer.to_str().encode(), MAX_TOKENS).ids("up")["input_ids"].shape == (1, 3)


def test_an_overlong_target_is_refused():
    with pytest.raises(UserError, match=r"^a target has 1001 characters; at most 1000 are allowed, shorten it$"):
        CUT["wordpiece"].ids("up", "x" * (MAX_TARGET_CHARS + 1))


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"\xff", "not valid JSON"), (b"{}", "tokenizers cannot load it"), (b"[]", "expected `object`, got `array`")],
)
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content, problem):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=problem) as caught:
        TextTokenizer(path, MAX_TOKENS)
    assert str(path) in str(caught.value)


def test_max_tokens_must_leave_room_for_a_text():
    with pytest.raises(FormatError, match="leave no room for a text in max_tokens = 3"):
        TextTokenizer(wordpiece().to_str().encode(), 3)
