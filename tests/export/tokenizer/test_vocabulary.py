from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from potstill.contract.errors import FormatError
from potstill.export.tokenizer.vocabulary import prune_tokenizer

WORDS = [
    "lowering",
    "lower",
    "lowest",
    "newer",
    "newest",
    "wider",
    "widest",
    "straße",
    "naïve",
    "price",
    "prices",
    "priced",
    "übel",
]
CORPUS = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL, show_progress=False))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


WHOLE = {"WordPiece": wordpiece(), "Unigram": unigram(), "BPE": bpe()}
POOL = ["lower prices", "newest"]


def cut(kind, texts=POOL):
    """(the whole tokenizer, the pruned one, the old id of each new one)."""
    whole = WHOLE[kind]
    used = {i for text in texts for i in whole.encode(text).ids}
    small = prune_tokenizer(Path("tokenizer.json"), json.loads(whole.to_str()), used)
    return whole, Tokenizer.from_str(json.dumps(small.layout)), small.kept


SMALL = {kind: cut(kind) for kind in WHOLE}
TEXTS = st.lists(st.sampled_from([*WORDS, "pricelower", "straßen", "zzz", "[SEP]", "日本", "low", "e"]), max_size=6).map(
    " ".join
) | st.text("abelowrpicßü .", max_size=20)


@pytest.mark.parametrize("kind", list(WHOLE))
def test_a_pruned_vocabulary_is_smaller_and_keeps_what_the_pool_and_special_tokens_need(kind):
    whole, small, kept = SMALL[kind]
    assert small.get_vocab_size() == len(kept) < whole.get_vocab_size()
    for text in POOL:
        assert [kept[i] for i in small.encode(text).ids] == whole.encode(text).ids
        assert small.encode(text).tokens == whole.encode(text).tokens


@pytest.mark.parametrize("kind", list(WHOLE))
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_a_text_keeps_its_pieces_where_all_are_kept_and_nothing_new_is_unknown(kind, text):
    whole, small, kept = SMALL[kind]
    before, after = whole.encode(text), small.encode(text)
    if set(before.ids) <= set(kept):
        assert after.tokens == before.tokens
        assert [kept[i] for i in after.ids] == before.ids
    assert after.tokens.count("[UNK]") <= before.tokens.count("[UNK]")


def test_a_piece_stays_when_a_character_in_it_has_none_of_its_own():
    pieces = ["[UNK]", "a", "b", "##a", "ab", "##ac"]  # no ##b, no c, no ##c
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    small = prune_tokenizer(Path("tokenizer.json"), json.loads(tokenizer.to_str()), set())
    assert [pieces[i] for i in small.kept] == pieces  # ab needs ##b, ##ac needs ##c
    pieces += ["##b", "##c"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    small = prune_tokenizer(Path("tokenizer.json"), json.loads(tokenizer.to_str()), set())
    assert [pieces[i] for i in small.kept] == ["[UNK]", "a", "b", "##a", "##b", "##c"]


def test_a_vocabulary_of_whole_words_is_refused():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(FormatError) as caught:
        prune_tokenizer(Path("tokenizer.json"), json.loads(tokenizer.to_str()), {0})
    assert str(caught.value) == "tokenizer.json: model.type: is 'WordLevel'; a vocabulary can be pruned of WordPiece, Unigram, BPE"


def test_tokens_added_between_those_of_the_model_are_refused():
    layout = json.loads(Tokenizer(models.WordPiece({"[UNK]": 0, "a": 2}, unk_token="[UNK]")).to_str())
    layout["added_tokens"] = [
        {"id": 1, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    ]
    with pytest.raises(FormatError, match="added_tokens: its vocabulary cannot be pruned: '.*' would get the id"):
        prune_tokenizer(Path("tokenizer.json"), layout, {0, 1, 2})
