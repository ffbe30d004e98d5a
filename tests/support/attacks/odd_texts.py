"""A WordPiece tokenizer and texts that are hard to tokenize word by word: special tokens, long runs, marks, other scripts."""

from __future__ import annotations

from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

MAX_TOKENS = 16
LONG_SPECIAL = "[u.n.u.s.e.d.1.2.3.4]"  # its beginning alone is a dozen words
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
MARKS = "!?.,-_()[]$%&/\"'“”…·=<>"
OTHERS = "éßяжأبتעבקあいう中文股😀🚀한글"


def wordpiece() -> Tokenizer:
    singles = list(LETTERS + MARKS + OTHERS)
    words = ["the", "price", "will", "rise", "fall", "##s", "##ing", "##er", "up", "down", "ab", "##ab"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *singles, *(f"##{one}" for one in LETTERS + OTHERS), *words]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", LONG_SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return tokenizer


characters = st.sampled_from(LETTERS + MARKS + OTHERS + "  \t\n\r\0\u00a0\u200b\u0301\u0327\u2028\ufffd\ud83d\udc00A")
words = st.text(characters, min_size=1, max_size=12)
runs = st.builds(lambda one, n: one * n, st.one_of(characters, st.sampled_from(["ab", " \n", "[CLS]", "<s>"])), st.integers(1, 900))
jumbles = st.text(characters, max_size=400)
specials = st.sampled_from([LONG_SPECIAL, "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "the", "rising", "don't", "12345", "!!!"])
texts = st.lists(st.one_of(words, words, runs, jumbles, specials, st.just(" "), st.just("\n")), max_size=60).map("".join)


def readable(text: str) -> str:
    return "".join("\ufffd" if 0xD800 <= ord(one) <= 0xDFFF else one for one in text)
