"""The page's tokenizer finds the tokens that `tokenizers` does, for whatever people and programs write."""

from __future__ import annotations

import json
import random

import msgspec
import pytest
from support.tiny_backbone import LETTERS, MARKS
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from potstill.contract.errors import FormatError
from potstill.export.layouts.web.folder import STATIC
from potstill.export.layouts.web.wordpiece import HANGUL, ranges, tables
from potstill.models.catalog import find_backbone
from potstill.serve.runtime.tokenizer import TextTokenizer

pytestmark = pytest.mark.slow

MAX_TOKENS = 24
N_FUZZED = 10_000
WRITTEN = [
    "", " ", "\n\t", "a", "The price will rise.", "naïve café Ünïcödé İstanbul ß ſ ﬁ", "İ̇i̇", "ΑΣ ας Σ",
    "👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 ☺️ ☺ ✊🏿!", "1️⃣ #️⃣ ©️ ™", "שלום עולם, מה שלומך?", "שָׁלוֹם", "مرحبا بالعالم كيف حالك؟", "مَرْحَبًا \u200fبكم\u200e",
    "今日は株価が上がる。", "買い!売り?", "价格会上涨", "𠀀𠀁𪜶", "豈更車", "가격이 오를 것이다", "각 각 ᄀ", "ราคาจะขึ้น", "कीमत बढ़ेगी", "giá sẽ tăng",
    "ｆｕｌｌ ｗｉｄｔｈ １２３", "a\u0301\u0327 a\u0327\u0301", "\U0001d165\U0001d16d\U0001d165 x\u302e\u302f\U0001d165", "a\u302f\ufe0f\U0001d165b",
    "zero\u200bwidth\u200djoin\u2060er\ufeff", "soft\u00adhyphen", "\u0000\u0001\u001f\u007f\u0085\u00a0", "\ud83d lone \udc00 halves", "\ufffd",
    "[CLS] text [SEP] more [MASK]", "[cls] [SEP][SEP] [UNK", "a[MASK]b", "https://t.co/aBc?x=1&y=2 @user #tag $TSLA", "don't can't it's", "--- ... !!! ???",
    "a" * 99, "a" * 100, "a" * 101, "x" * 5000 + " end", "word " * 4000, "é" * 3000, "\u0301" * 3000 + "end", " " * 5000 + "end", "中" * 4000,
]  # fmt: skip
ALPHABETS = [
    [*range(0x20, 0x7F)], [*range(0xA0, 0x250)], [*range(0x300, 0x370), *range(0x61, 0x7B)], [*range(0x590, 0x700)], [*range(0x900, 0xA00)],
    [*range(0x1100, 0x1200), *HANGUL[::97]], [*range(0x2000, 0x2070), 0x20, 0x61], [*range(0x3000, 0x3100), *range(0x4E00, 0x4F00)],
    [*range(0x1F300, 0x1F650), 0x200D, 0xFE0F, 0x20], [*range(0x1D160, 0x1D180), 0x302E, 0x302F, 0xFE0F, 0x61], [*range(0xD7F0, 0xE010)],
    [*range(0x110000)],
]  # fmt: skip


def fuzzed(n, seed=0):
    """Strings of every script, of several at once, and of code points that no script has."""
    rng = random.Random(seed)
    found = []
    for _ in range(n):
        alphabets = rng.sample(ALPHABETS, rng.randint(1, 3))
        text = "".join(chr(rng.choice(rng.choice(alphabets))) for _ in range(rng.randint(1, 40)))
        found.append(
            text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        )  # two halves that meet are a pair
    return found


def a_tokenizer(path, normalizer, *, cased=False):
    """A WordPiece tokenizer that knows letters of several scripts, alone and inside a word."""
    letters = [*LETTERS, *(LETTERS.upper() if cased else ""), *"0123456789.,!?-'éüßאבגدرعあ中가각👍\u302e\u302f\U0001d165\u0301"]
    pieces = {
        piece: i for i, piece in enumerate([*MARKS, "the", "price", "will", "rise", *letters, *(f"##{one}" for one in letters)])
    }
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]", max_input_chars_per_word=100))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = [(mark, pieces[mark]) for mark in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*marks)
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    path.write_text(tokenizer.to_str())
    return path


def units(text):
    """A text as UTF-16 code units, as JavaScript has it: halves of a pair travel no other way."""
    data = text.encode("utf-16-le", "surrogatepass")
    return [int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data), 2)]


def page_tokens(page, made, pairs):
    """{ids, types} of every text, with its target or None, by the script in a real browser."""
    page.goto("about:blank")
    page.add_script_tag(content=(STATIC / "tokenizer.js").read_text())
    rows = [[units(text), None if target is None else units(target)] for text, target in pairs]
    script = """([tables, most, rows]) => {
        const tokenizer = new potstill.Tokenizer(JSON.parse(tables), most);
        const text = (units) => Array.from(units, (one) => String.fromCharCode(one)).join("");
        return JSON.stringify(JSON.parse(rows).map(([own, about]) => tokenizer.encode(text(own), about === null ? undefined : text(about))));
    }"""
    return json.loads(page.evaluate(script, [msgspec.json.encode(made).decode(), MAX_TOKENS, json.dumps(rows)]))


def expected_tokens(path, pairs):
    tokenizer = TextTokenizer(path, MAX_TOKENS)
    found = []
    for text, target in pairs:
        feeds = tokenizer.ids(text, target)
        found.append({"ids": feeds["input_ids"][0].tolist(), "types": feeds["token_type_ids"][0].tolist()})
    return found


def assert_same(found, expected, pairs):
    wrong = [(pair, mine, right) for pair, mine, right in zip(pairs, found, expected, strict=True) if mine != right]
    assert not wrong, f"{len(wrong)} of {len(pairs)} differ, first {wrong[0]!a}"


KINDS = {
    "uncased": normalizers.BertNormalizer(),
    "cased": normalizers.BertNormalizer(lowercase=False),
    "accents kept": normalizers.BertNormalizer(strip_accents=False),
    "ideographs not split, nothing cleaned": normalizers.BertNormalizer(handle_chinese_chars=False, clean_text=False),
    "none": None,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_finds_the_same_tokens_whatever_the_normalizer_does(kind, new_page, tmp_path):
    path = a_tokenizer(tmp_path / "tokenizer.json", KINDS[kind], cased=kind == "cased")
    pairs = [(text, None) for text in [*WRITTEN, *fuzzed(2000, seed=1)]]
    assert_same(page_tokens(new_page(), tables(path), pairs), expected_tokens(path, pairs), pairs)


def test_ten_thousand_random_strings_have_the_same_tokens_with_a_published_vocabulary(new_page):
    path = find_backbone("all-minilm-l6-v2").path / "tokenizer.json"
    pairs = [(text, None) for text in [*WRITTEN, *fuzzed(N_FUZZED)]]
    expected = expected_tokens(path, pairs)
    assert len({tuple(row["ids"]) for row in expected}) > N_FUZZED / 3  # the strings are not all unknown to it
    assert_same(page_tokens(new_page(), tables(path), pairs), expected, pairs)


def test_a_text_and_its_target_share_the_room_as_the_library_shares_it(new_page, tmp_path):
    path = a_tokenizer(tmp_path / "tokenizer.json", normalizers.BertNormalizer())
    texts = [" ".join(["rise"] * n) for n in (0, 1, 5, 9, 10, 11, 12, 20, 21, 22, 40, 900)]
    pairs = [(text, target) for text in [*texts, *WRITTEN] for target in [*(one for one in texts if len(one) <= 1000), "👍 שלום"]]
    assert_same(page_tokens(new_page(), tables(path), pairs), expected_tokens(path, pairs), pairs)


def test_a_long_target_is_refused_as_in_python(new_page, tmp_path):
    path = a_tokenizer(tmp_path / "tokenizer.json", None)
    with pytest.raises(Exception, match="a target has 1001 characters; at most 1000 are allowed, shorten it"):
        page_tokens(new_page(), tables(path), [("a", "b" * 1001)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": {"type": "BPE", "vocab": {}, "merges": []}},
            "is BPE, BertNormalizer, BertPreTokenizer; a page reads WordPiece with BertNormalizer and BertPreTokenizer alone: "
            "train a student on a backbone such as all-minilm-l6-v2",
        ),
        (
            {"pre_tokenizer": None},
            "is WordPiece, BertNormalizer, none; a page reads WordPiece with BertNormalizer and BertPreTokenizer alone: "
            "train a student on a backbone such as all-minilm-l6-v2",
        ),
        (
            {"added_tokens": [{"id": 4, "content": "mask", "single_word": True, "normalized": False}]},
            "added_tokens 'mask': is matched in normalized text, or as a whole word; a page matches added tokens in the text as it is",
        ),
    ],
)
def test_a_tokenizer_that_a_page_cannot_follow_is_refused(change, message, tmp_path):
    path = a_tokenizer(tmp_path / "tokenizer.json", normalizers.BertNormalizer())
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FormatError) as caught:
        tables(path)
    assert str(caught.value) == f"{path}: {message}"


def test_ranges_name_every_code_point_once():
    assert ranges([5, 1, 2, 3, 9]) == [[1, 3], [5, 5], [9, 9]]
    assert ranges([]) == []
