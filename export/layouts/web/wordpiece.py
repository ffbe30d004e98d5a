"""Describe a WordPiece tokenizer as tables that a page can follow without a library.

A browser has Unicode tables of its own version, and `tokenizers` has older ones of several. So nothing is left to the browser: the
library itself is asked what it makes of every code point, and a page that looks the answers up finds the same tokens.
What a code point becomes does not depend on those around it, with one exception that Unicode makes: combining marks that are kept
are put into a fixed order. Their classes are among the tables.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from tokenizers import Encoding, Tokenizer

from potstill.contract.errors import FormatError
from potstill.contract.files import decode

HANGUL = range(0xAC00, 0xD7A4)  # syllables, which decompose by arithmetic; Unicode Standard 15.0, section 3.12
AT_ONCE = 4096  # code points that the library is asked about in one call
BETWEEN = "q"  # a letter that no code point but these two becomes, and that keeps its neighbours apart
_SAME_AS_BETWEEN = {ord("q"), ord("Q")}
FIRST, SECOND = "A", "B"  # the places of text and target in a template


class _Part(msgspec.Struct, frozen=True):
    """A component; only what decides here."""

    type: str = ""
    unk_token: str = ""
    continuing_subword_prefix: str = "##"
    max_input_chars_per_word: int = 100
    vocab: dict[str, int] | list[Any] = {}


class _Added(msgspec.Struct, frozen=True):
    """A token that is matched in the text itself."""

    id: int
    content: str
    single_word: bool = False
    normalized: bool = True


class _Layout(msgspec.Struct, frozen=True):
    """The components of a `tokenizer.json`."""

    model: _Part
    normalizer: _Part | None = None
    pre_tokenizer: _Part | None = None
    added_tokens: list[_Added] = []


class Normal(NamedTuple):
    """What the normalizer makes of code points; those that are named nowhere stay as they are."""

    drop: list[list[int]]  # ranges, both ends included, that become nothing
    part: list[list[int]]  # ranges that become nothing, and end a run of marks
    pad: list[list[int]]  # ranges that get a space on either side
    hangul: bool  # syllables decompose
    maps: dict[str, str]  # what becomes something else
    order: dict[str, int]  # canonical combining classes of the marks that are kept


def tables(path: Path) -> dict[str, Any]:
    """The tables of a bundle's `tokenizer.json`, which must be WordPiece as BERT has it.

    Returns:
        `vocab` (tokens in the order of their ids), `unknown`, `prefix`, `max_chars`, `added` (ids by content), `normal`
        (:class:`Normal`), `space` and `punctuation` (ranges of code points, after normalization), `single` and `pair` (templates:
        [id, type] of a special token, [FIRST or SECOND, type] of a sequence).
    Raises:
        FormatError: if the tokenizer is of another kind.
    """
    data = decode.read_bytes(path)
    layout = decode.json(path, data, _Layout)
    _check(path, layout)
    model, tokenizer = layout.model, Tokenizer.from_buffer(data)
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    words = [""] * (max(vocabulary.values()) + 1)
    for word, index in vocabulary.items():
        words[index] = word
    tokenizer.no_truncation()
    tokenizer.no_padding()
    space, punctuation = _separators(tokenizer)
    return {
        "vocab": words,
        "unknown": vocabulary[model.unk_token],
        "prefix": model.continuing_subword_prefix,
        "max_chars": model.max_input_chars_per_word,
        "added": {token.content: token.id for token in layout.added_tokens},
        "normal": _normal(tokenizer)._asdict(),
        "space": space,
        "punctuation": punctuation,
        "single": _template(tokenizer.encode("a")),
        "pair": _template(tokenizer.encode("a", "a")),
    }


def _check(path: Path, layout: _Layout) -> None:
    """Raise FormatError unless the tokenizer is of the kind that the page can follow."""
    parts = (layout.model, layout.normalizer or _Part("BertNormalizer"), layout.pre_tokenizer or _Part("none"))
    kinds = tuple(part.type for part in parts)
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer"):
        problem = f"is {', '.join(kinds)}; a page reads WordPiece with BertNormalizer and BertPreTokenizer alone"
        raise FormatError(path, "", f"{problem}: train a student on a backbone such as all-minilm-l6-v2")
    if not isinstance(layout.model.vocab, dict) or layout.model.unk_token not in layout.model.vocab:
        raise FormatError(path, "model.unk_token", f"is {layout.model.unk_token!r}, which is not in the vocabulary")
    for token in layout.added_tokens:
        if token.normalized or token.single_word:
            problem = "is matched in normalized text, or as a whole word; a page matches added tokens in the text as it is"
            raise FormatError(path, f"added_tokens {token.content!r}", problem)


def _template(encoding: Encoding) -> list[list[int | str]]:
    """The special tokens and places of an encoding of one token, or of two."""
    names = {None: None, 0: FIRST, 1: SECOND}
    rows = zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True)
    return [[names[part] or index, kind] for index, kind, part in rows]


def _normal(tokenizer: Tokenizer) -> Normal:
    """Ask the normalizer about every code point."""
    if tokenizer.normalizer is None:
        return Normal([], [], [], False, {}, {})
    found = _normalized(tokenizer)
    hangul = all(found.get(code) == unicodedata.normalize("NFD", chr(code)) for code in HANGUL)
    gone = [code for code, text in found.items() if not text]
    parts = [code for code in gone if unicodedata.category(chr(code)) == "Mn" and not unicodedata.combining(chr(code))]
    pad = [code for code, text in found.items() if text == f" {chr(code)} "]
    rest = found.keys() - set(gone) - set(pad) - set(HANGUL if hangul else ())
    maps = {chr(code): found[code] for code in sorted(rest)}
    return Normal(ranges(set(gone) - set(parts)), ranges(parts), ranges(pad), hangul, maps, _order(tokenizer, found.keys()))


def _normalized(tokenizer: Tokenizer) -> dict[int, str]:
    """What each code point becomes, without those that stay what they are."""
    found: dict[int, str] = {}
    for codes in _batches(set(_code_points()) - _SAME_AS_BETWEEN):
        texts = tokenizer.normalizer.normalize_str(BETWEEN.join(map(chr, codes))).split(BETWEEN)
        found |= {code: text for code, text in zip(codes, texts, strict=True) if text != chr(code)}
    for code in _SAME_AS_BETWEEN:
        if (text := tokenizer.normalizer.normalize_str(chr(code))) != chr(code):
            found[code] = text
    return found


def _order(tokenizer: Tokenizer, changed: Collection[int]) -> dict[str, int]:
    """The combining classes of the marks that the normalizer keeps and puts in order: of each it is seen to move one."""
    classes = {chr(code): unicodedata.combining(chr(code)) for code in _code_points() if code not in changed}
    marks = {mark: kind for mark, kind in classes.items() if kind}
    moved: set[str] = set()
    for first, high in marks.items():
        for second, low in marks.items():
            if high > low and tokenizer.normalizer.normalize_str(f"a{first}{second}") == f"a{second}{first}":
                moved |= {first, second}
    return {mark: kind for mark, kind in marks.items() if mark in moved}


def _separators(tokenizer: Tokenizer) -> tuple[list[list[int]], list[list[int]]]:
    """(code points that are left out between words, those that are words of their own), as the pre-tokenizer splits."""
    space: list[int] = []
    alone: list[int] = []
    for codes in _batches(_code_points()):
        text = " ".join(f"a{chr(code)}a" for code in codes)
        starts = [start for _, (start, _) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        for at, words in groupby(starts, key=lambda start: start // 4):  # each is three characters and a space
            match len(list(words)):
                case 2:
                    space.append(codes[at])
                case 3:
                    alone.append(codes[at])
    return ranges(space), ranges(alone)


def ranges(codes: Iterable[int]) -> list[list[int]]:
    """Code points as ascending ranges, both ends included."""
    rows = groupby(enumerate(sorted(codes)), key=lambda row: row[1] - row[0])
    runs = [[code for _, code in run] for _, run in rows]
    return [[run[0], run[-1]] for run in runs]


def _code_points() -> Iterator[int]:
    """Every code point that a text may hold: all but the surrogates."""
    yield from range(0xD800)
    yield from range(0xE000, 0x110000)


def _batches(codes: Iterable[int]) -> Iterator[list[int]]:
    """The code points in ascending order, `AT_ONCE` of them at a time."""
    left = sorted(codes)
    for at in range(0, len(left), AT_ONCE):
        yield left[at : at + AT_ONCE]
