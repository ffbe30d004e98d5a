"""Check the parts of a `tokenizer.json` before the library loads it: nothing in it may multiply a text, or take long over one.

Every part is of a kind that published tokenizers have. Regular expressions, which the library matches by trying (Oniguruma), are
restricted to those that cannot try exponentially many ways: no back reference, and nothing repeated that itself repeats or
chooses. The vocabulary is not looked at; its size is bounded by the file's.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import decode
from potstill.contract.security.graph_size import TRUST

MODELS = frozenset({"WordPiece", "BPE", "Unigram", "WordLevel"})
NORMALIZERS = frozenset(
    "BertNormalizer ByteLevel Lowercase NFC NFD NFKC NFKD Nmt Precompiled Prepend Replace Sequence Strip StripAccents".split()
)
PRE_TOKENIZERS = frozenset(
    "BertPreTokenizer ByteLevel CharDelimiterSplit Digits FixedLength Metaspace Punctuation Sequence Split UnicodeScripts "
    "Whitespace WhitespaceSplit".split()
)
PROCESSORS = frozenset({"BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"})
MAX_PARTS = 32  # of one kind, those in sequences included
MAX_GROWTH = 40  # bytes that normalizers may make of a byte: a space becomes three, and NFKC makes 33 of three
MAX_NORMAL_BYTES = 40  # of what a precompiled table makes of a character
MAX_ADDED = 20_000
MAX_ADDED_CHARS = 512
MAX_WORD_CHARS = 1000  # of a word that WordPiece looks up, which takes the square of them
MAX_TEMPLATE = 16  # pieces of a template, and ids of a special token
MAX_PATTERN_CHARS = 1000
MAX_REPEATS = 3  # unbounded ones in an alternative of a pattern
MAX_OPTIONS = 8
MAX_COUNT = 256  # of a bounded repeat
_REPEAT = re.compile(r"([*+?]|\{(\d*)(,?)(\d*)\})[?+]?")
_CLASS_OR_ESCAPE = re.compile(r"\\(?:[pPx]\{[^}]*\}|.)", re.DOTALL)
_OPEN = re.compile(r"\((?:\?(?:[imsx-]*[:)]|<?[=!]|>))?")


class _Added(msgspec.Struct, frozen=True):
    content: str


class _Model(msgspec.Struct, frozen=True):
    type: str | None = None
    dropout: float | None = None
    max_input_chars_per_word: int = 100
    vocab: msgspec.Raw = msgspec.Raw(b"{}")
    merges: msgspec.Raw = msgspec.Raw(b"[]")


class _Form(msgspec.Struct, frozen=True):
    model: _Model = _Model()
    normalizer: Any = None
    pre_tokenizer: Any = None
    post_processor: Any = None
    decoder: Any = None
    added_tokens: list[_Added] = []


def check_tokenizer(path: Path, data: bytes) -> None:
    """Raise FormatError if a `tokenizer.json` has a part that no published tokenizer has, or that multiplies a text.

    Args:
        path: the file, for the message.
        data: its bytes.
    """
    form = decode.json(path, data, _Form)
    if len(form.added_tokens) > MAX_ADDED:
        raise FormatError(path, "added_tokens", f"are {len(form.added_tokens)}; at most {MAX_ADDED} are allowed")
    if any(not 0 < len(token.content) <= MAX_ADDED_CHARS for token in form.added_tokens):
        raise FormatError(path, "added_tokens", f"have one that is empty or longer than {MAX_ADDED_CHARS} characters")
    model = form.model
    if model.type is not None and model.type not in MODELS:
        raise FormatError(path, "model.type", f"is {model.type!r}; allowed: {', '.join(sorted(MODELS))}")
    if model.dropout:
        raise FormatError(path, "model.dropout", f"is {model.dropout}; with it, a text gets another answer each time")
    if not 0 < model.max_input_chars_per_word <= MAX_WORD_CHARS:
        problem = f"is {model.max_input_chars_per_word}; it must be from 1 to {MAX_WORD_CHARS}"
        raise FormatError(path, "model.max_input_chars_per_word", problem)
    _check_normalizers(path, list(_parts(path, "normalizer", form.normalizer, NORMALIZERS)))
    for part in _parts(path, "pre_tokenizer", form.pre_tokenizer, PRE_TOKENIZERS):
        _pattern(path, "pre_tokenizer", part)
    for part in _parts(path, "decoder", form.decoder, None):
        _pattern(path, "decoder", part)
    for part in _parts(path, "post_processor", form.post_processor, PROCESSORS):
        _check_template(path, part)


def _parts(path: Path, place: str, part: Any, allowed: frozenset[str] | None) -> Iterator[dict[str, Any]]:
    """Every component of one kind, those in sequences included."""
    left = [] if part is None else [part]
    n_parts = 0
    while left:
        one = left.pop()
        n_parts += 1
        kind = one.get("type") if isinstance(one, dict) else None
        if not isinstance(kind, str) or (allowed is not None and kind not in allowed):
            problem = f"has a part of the type {kind!r}; allowed: {', '.join(sorted(allowed or ()))}; {TRUST}"
            raise FormatError(path, place, problem)
        if n_parts > MAX_PARTS:
            raise FormatError(path, place, f"has more than {MAX_PARTS} parts; {TRUST}")
        for name in ("normalizers", "pretokenizers", "processors", "decoders"):
            inside = one.get(name)
            left += inside if kind == "Sequence" and isinstance(inside, list) else []
        yield one


def _check_normalizers(path: Path, parts: list[dict[str, Any]]) -> None:
    """Check that the normalizers together make a text only a little longer."""
    growth = 1.0
    for part in parts:
        place = f"normalizer {part['type']}"
        if part["type"] == "Replace":
            content = part.get("content")
            written = len(content.encode("utf-8", "replace")) if isinstance(content, str) else 0
            growth *= max(1.0, written / _pattern(path, place, part))
        elif part["type"] == "Prepend" and len(str(part.get("prepend"))) > MAX_TEMPLATE:
            raise FormatError(path, place, f"adds more than {MAX_TEMPLATE} characters; {TRUST}")
        elif part["type"] == "Precompiled":
            growth *= max(1.0, _longest_normal(path, place, part.get("precompiled_charsmap")) / 3)
        if growth > MAX_GROWTH:
            raise FormatError(path, place, f"makes a text more than {MAX_GROWTH} times longer; {TRUST}")


def _longest_normal(path: Path, place: str, table: object) -> int:
    """Bytes of the longest string in a precompiled table: the size of a trie, the trie, strings that end with a zero byte.

    Source: github.com/google/sentencepiece, src/normalizer.cc, `Normalizer::DecodePrecompiledCharsMap`.
    """
    try:
        data = base64.b64decode(table, validate=True) if isinstance(table, str) else b""
    except (binascii.Error, ValueError):
        data = b""
    n_trie = int.from_bytes(data[:4], "little")
    if len(data) < 4 or n_trie % 4 or not 0 < n_trie <= len(data) - 4:
        raise FormatError(path, place, "has a table that is not one of sentencepiece; copy the whole bundle again")
    longest = max(map(len, data[4 + n_trie :].split(b"\0")))
    if longest > MAX_NORMAL_BYTES:
        raise FormatError(path, place, f"makes {longest} bytes of a character; at most {MAX_NORMAL_BYTES} are allowed; {TRUST}")
    return longest


def _check_template(path: Path, part: dict[str, Any]) -> None:
    """Check that a template uses each text once and adds few tokens."""
    for name in ("single", "pair"):
        pieces = part.get(name) or []
        texts = [str(piece["Sequence"]) for piece in pieces if isinstance(piece, dict) and "Sequence" in piece]
        if len(pieces) > MAX_TEMPLATE or len(texts) > (1 if name == "single" else 2):
            raise FormatError(path, f"post_processor.{name}", f"repeats a text, or has more than {MAX_TEMPLATE} pieces; {TRUST}")
    tokens = part.get("special_tokens")
    if isinstance(tokens, dict) and any(
        isinstance(token, dict) and len(token.get("ids") or []) > MAX_TEMPLATE for token in tokens.values()
    ):
        raise FormatError(path, "post_processor.special_tokens", f"have one of more than {MAX_TEMPLATE} ids; {TRUST}")


def _pattern(path: Path, place: str, part: dict[str, Any]) -> int:
    """Check a part's pattern, if it has one; the fewest bytes that it matches."""
    pattern = part.get("pattern")
    if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
        problem = _slow(pattern["Regex"])
        if problem:
            raise FormatError(path, place, f"has a regular expression that {problem}; {TRUST}")
        return 1
    literal = pattern.get("String") if isinstance(pattern, dict) else pattern
    if literal == "":
        raise FormatError(path, place, f"has an empty pattern; {TRUST}")
    return len(literal.encode("utf-8", "replace")) if isinstance(literal, str) else 1


@dataclass
class _Group:
    """What was read of a group."""

    width: bool = True  # False: looks ahead or behind, and matches nothing itself
    alternatives: int = 1
    repeats: int = 0  # unbounded, in the current alternative
    options: int = 0
    needed: bool = False  # the current alternative matches at least one character
    empty: bool = False  # an earlier one may match none
    most: int = 0  # unbounded repeats in any alternative
    repeated: bool = False  # something inside is repeated


def _slow(pattern: str) -> str:
    """Why matching a regular expression may take long, or match nothing; "" if it may not."""
    if len(pattern) > MAX_PATTERN_CHARS:
        return f"has more than {MAX_PATTERN_CHARS} characters"
    groups, at = [_Group()], 0
    while at < len(pattern):
        inside: _Group | None = None
        if pattern[at] == "|":
            _end_alternative(groups[-1])
            groups[-1].alternatives += 1
            at += 1
            continue
        if pattern[at] == "(":
            opening = _OPEN.match(pattern, at)
            if opening is None or (pattern[at + 1 : at + 2] == "?" and opening[0] == "("):
                return "has a group of an unusual kind"
            at = opening.end()
            if not opening[0].endswith(")"):
                groups.append(_Group(width="=" not in opening[0] and "!" not in opening[0]))
            continue
        if pattern[at] == ")":
            if len(groups) == 1:
                return "has a bracket too many"
            inside, at = groups.pop(), at + 1
            _end_alternative(inside)
        else:
            end = _end_of_atom(pattern, at)
            if end is None:
                return "has a back reference, or a class that does not end"
            at = end
        repeat = _REPEAT.match(pattern, at)
        at = at if repeat is None else repeat.end()
        problem = _take(groups[-1], inside, repeat)
        if problem or (repeat is not None and _REPEAT.match(pattern, at)):
            return problem or "repeats what is repeated"
    _end_alternative(groups[0])
    if len(groups) > 1:
        return "has a bracket too few"
    return "may match nothing" if groups[0].empty else ""


def _end_alternative(group: _Group) -> None:
    """Sum an alternative up."""
    group.empty |= not group.needed
    group.most = max(group.most, group.repeats)
    group.repeats, group.needed = 0, False


def _end_of_atom(pattern: str, at: int) -> int | None:
    """The position after a character, an escape or a class; None if it is a back reference or does not end."""
    if pattern[at] == "\\":
        escape = _CLASS_OR_ESCAPE.match(pattern, at)
        return None if escape is None or escape[0][1] in "123456789kgKRXyY" else escape.end()
    if pattern[at] != "[":
        return at + 1
    depth, start = 0, at
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "[":
            depth += 1
        elif pattern[at] == "]" and at > start + 1:
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return None


def _take(group: _Group, inside: _Group | None, repeat: re.Match[str] | None) -> str:
    """Add an atom, or a whole group, with its repeat to the group around it; a problem, or ""."""
    sign = "" if repeat is None else repeat[1]
    low, comma, high = ("", "", "") if repeat is None else (repeat[2] or "", repeat[3] or "", repeat[4] or "")
    unbounded = sign in ("*", "+") or bool(comma and not high)
    counts = [int(count[:6]) for count in (low, high) if count]
    if max(counts, default=0) > MAX_COUNT:
        return f"repeats something more than {MAX_COUNT} times"
    several = unbounded or max(counts, default=1) > 1
    if inside is not None and several and (inside.repeated or inside.alternatives > 1 or inside.options):
        return "repeats something that itself repeats or chooses"
    group.repeated |= several or (inside is not None and inside.repeated)
    group.repeats += unbounded + (0 if inside is None else inside.most)
    optional = sign in ("*", "?") or (sign.startswith("{") and low in ("", "0"))
    group.options += (optional and not unbounded) + (0 if inside is None else inside.options)
    if group.repeats > MAX_REPEATS or group.options > MAX_OPTIONS * group.alternatives:
        return "repeats too many things in a row"
    matches = inside is None or (inside.width and not inside.empty)
    group.needed |= matches and not optional
    return ""
