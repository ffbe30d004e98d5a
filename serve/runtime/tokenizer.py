"""Tokenize a text at bounded cost: the token ids equal those of the whole text, truncated, however long the text is.

A tokenizer's own truncation bounds the result, not the work: a megabyte is normalized and split before all but the first
tokens are dropped. Here a long text is cut first, in two steps that do not change the tokens that are kept.

1. *A growing prefix.* The first characters are tokenized. Once more tokens are settled than can be kept, the rest of the
   text cannot change them and is never read. A token is settled when its word ends inside the prefix and its own end lies a
   margin before the cut: the rest of a word, a combining mark or the tail of a special token cannot reach it then.
2. *Shorter runs.* WordPiece maps a word longer than `max_input_chars_per_word` to one unknown token, whatever follows, and a
   run of one repeated character is all space, all dropped, all one word, or one token per character. So the middle of a run
   of letters, of spaces, or of one character is left out once the run is longer than that limit and than what is kept.

Step 2 holds for BERT tokenizers only (WordPiece with BertNormalizer and BertPreTokenizer). Other tokenizers (BPE, Unigram) have no
limit on the length of a word; there, a token inside an unfinished word counts as settled once `INSIDE_WORD_MARGIN` characters
follow it. Merges depend on their context, so inside a word of thousands of characters this is a practical rule, not a proof.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import decode
from potstill.serve.runtime.session import INPUTS, MAX_REASON_CHARS
from potstill.serve.runtime.word_cache import WordCache

Feeds = dict[str, NDArray[np.int64]]

CHARS_PER_TOKEN = 8  # length of the first prefix; English needs about 5, and a text shorter than the first prefix is never cut
GROWTH = 4  # factor by which the prefix grows while it settles too few tokens
MAX_CHARS = 1_000_000  # read at most, of a text that settles too few tokens, such as a megabyte of invisible characters
BYTES_PER_CHAR = 4  # at most, in UTF-8
MAX_TARGET_CHARS = 1000  # a target is a name; a longer one is refused, so that it never needs cutting
MARGIN = 128  # characters before a cut in which no token is settled; longer than any special token and any grapheme in use
INSIDE_WORD_MARGIN = 1024
_KEPT_TAIL = 64  # characters kept at the end of a shortened run, next to what follows it
_SURROGATES = re.compile("[\ud800-\udfff]")
_BRACKETED = re.compile(r"[\[<].{1,62}[\]>]")  # [CLS], <mask>: cannot lie inside a run of letters or of one character
# BERT splits these into words of one character (above U+FFFF: some of them).
_KEPT_DROPPED = 8  # characters kept at either end of a run that the normalizer drops or takes for one space
_MAYBE_DROPPED = {"Mn", "Me", "Cc", "Cf"}  # categories of characters that a normalizer may drop
_PRIVATE = "\ue000-\uf8ff"  # private use, dropped with the control characters
_SPACES = " \t\n\r\u00a0\u2000-\u200a\u3000"
_ANY_SPACE = re.compile(f"[{_SPACES}]")
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00010000-\U0010ffff"


class _Part(msgspec.Struct, frozen=True):
    """A component of a tokenizer; only the fields that matter here."""

    type: str = ""
    max_input_chars_per_word: int = 100
    lowercase: bool = False
    clean_text: bool = True
    strip_accents: bool | None = None  # None: as lowercase


class _Added(msgspec.Struct, frozen=True):
    """A token that is matched in the text itself, after normalization or before it."""

    content: str
    normalized: bool = True


class _Layout(msgspec.Struct, frozen=True):
    """The components of a `tokenizer.json`, without the vocabulary."""

    model: _Part = _Part()
    normalizer: _Part | None = None
    pre_tokenizer: _Part | None = None
    added_tokens: list[_Added] = []


@contextmanager
def tokenizer_errors(path: Path) -> Iterator[None]:
    """Turn the library's errors into a FormatError that names the file; its panics are no `Exception`, and are told by name."""
    try:
        yield
    except BaseException as error:
        if type(error) in (ValueError, Exception, OverflowError, TypeError) or type(error).__module__ == "pyo3_runtime":
            reason = " ".join(str(error).split())[:MAX_REASON_CHARS]
            raise FormatError(path, "", f"tokenizers cannot load it: {reason}") from error
        raise


class TextTokenizer:
    """A tokenizer with truncation and without padding. It never changes after construction, so threads may share it."""

    def __init__(
        self,
        tokenizer_json: Path | bytes,
        max_tokens: int,
        inputs: Collection[str] = INPUTS,
        name: Path = Path("tokenizer.json"),
        *,
        keep: Literal["head", "tail"] = "head",
    ) -> None:
        """Read a `tokenizer.json`.

        Args:
            tokenizer_json: the file, or its bytes.
            max_tokens: tokens kept of a text, special tokens included.
            inputs: names of the graph's inputs; only these arrays are made.
            name: of the file, for messages, if its bytes are given.
            keep: which end of a text that is too long is kept.
        Raises:
            FormatError: if it is not a tokenizer, or max_tokens leaves no room next to the special tokens.
        """
        path = tokenizer_json if isinstance(tokenizer_json, Path) else name
        data = tokenizer_json if isinstance(tokenizer_json, bytes) else decode.read_bytes(path)
        layout = decode.json(path, data, _Layout)
        # Only one text is tokenized at a time; the library's thread pool would add overhead and no speed.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        with tokenizer_errors(path):
            self._tokenizer = Tokenizer.from_buffer(data)
        if max_tokens <= self._tokenizer.num_special_tokens_to_add(is_pair=True):
            raise FormatError(path, "", f"adds special tokens that leave no room for a text in max_tokens = {max_tokens}")
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens, strategy="longest_first", direction="right" if keep == "head" else "left")
        self._max_tokens, self._keep = max_tokens, keep
        self._inputs = tuple(inputs)
        self._runs, self._kept_head = _runs_to_shorten(layout, max_tokens)
        self._cleans = bool(self._runs and layout.normalizer and layout.normalizer.clean_text)
        self._dropped: re.Pattern[str] | None = None  # made for the first long text
        self._uncut_chars = CHARS_PER_TOKEN * max_tokens
        with tokenizer_errors(path):
            self._one_type = not any(self._tokenizer.encode("a").type_ids)  # of a text alone
        self._enough_words = re.compile(rf"[\W_]*+(?:[^\W_]++[\W_]++){{{max_tokens}}}")
        self._constants: dict[int, Feeds] = {}
        self._words = None
        if self._runs and self._one_type and keep == "head" and not any(token.normalized for token in layout.added_tokens):
            special = [token.content for token in layout.added_tokens]
            lowercase = bool(layout.normalizer and layout.normalizer.lowercase)
            self._words = WordCache(self._tokenizer, max_tokens, special, lowercase=lowercase)

    def ids(self, text: str | bytes, target: str | bytes | None = None) -> Feeds:
        """The graph's inputs for one text: int64 [1, T] by input name, T at most max_tokens, no padding.

        Bytes are read as UTF-8. Invalid UTF-8 and lone surrogates, which no tokenizer accepts, are read as U+FFFD.

        Returns:
            arrays; all but the ids may be shared with other calls, so do not write to them.
        Raises:
            UserError: if the target is longer than `MAX_TARGET_CHARS` characters.
        """
        return self.read(text, target)[0]

    def read(self, text: str | bytes, target: str | bytes | None = None) -> tuple[Feeds, list[int]]:
        """(what :meth:`ids` gives, the same ids as a list, which it costs time to make of the array)."""
        text = _decoded(text)
        if self._keep == "tail":
            encoding = self._tail(_readable(text), None if target is None else _readable(_short_target(_decoded(target))))
            return self._feeds(encoding, target)
        if target is None and self._words is not None:
            known = self._words.ids(_readable(text[: self._uncut_chars + MARGIN]), self._uncut_chars)
            if known is not None:
                return self._feeds_of(known, None), known
        if target is not None:
            encoding = self._encode_pair(text, _decoded(target))
        elif len(text) <= self._uncut_chars:
            # the batch form computes no offsets and releases the GIL
            encoding = self._tokenizer.encode_batch_fast([_readable(text)])[0]
        else:
            encoding = self._settled(text, self._max_tokens)[1]
        return self._feeds(encoding, target)

    def _feeds(self, encoding: Encoding, target: str | bytes | None) -> tuple[Feeds, list[int]]:
        """What :meth:`read` gives of an encoding."""
        ids: list[int] = encoding.ids
        return self._feeds_of(ids, encoding.type_ids if target is not None or not self._one_type else None), ids

    def _feeds_of(self, ids: list[int], types: list[int] | None) -> Feeds:
        """The graph's inputs; None as types means zeros."""
        if (constants := self._constants.get(len(ids))) is None:
            constants = self._new_constants(len(ids))
        feeds = {"input_ids": np.array([ids], dtype=np.int64), **constants}
        if types is not None and "token_type_ids" in constants:
            feeds["token_type_ids"] = np.array([types], dtype=np.int64)
        return feeds

    def _new_constants(self, n_tokens: int) -> Feeds:
        """A mask of ones and types of zeros for this many tokens, if the graph has those inputs; made once for each length."""
        feeds = {"attention_mask": np.ones((1, n_tokens), np.int64), "token_type_ids": np.zeros((1, n_tokens), np.int64)}
        kept = {name: value for name, value in feeds.items() if name in self._inputs}
        self._constants[n_tokens] = kept
        return kept

    def _encode_pair(self, text: str, target: str) -> Encoding:
        """Encode text and target, truncated together: the longer of the two loses tokens first."""
        target = _readable(_short_target(target))
        if len(text) <= self._uncut_chars:
            return self._tokenizer.encode_batch_fast([(_readable(text), target)])[0]
        alone = self._tokenizer.encode(target)
        n_target = sum(len(piece.ids) for piece in [alone, *alone.overflowing])
        text, _ = self._settled(text, max(self._max_tokens, n_target) + 1)  # enough to tell which of the two is longer
        return self._tokenizer.encode(text, target)

    def _settled(self, text: str, n_tokens: int) -> tuple[str, Encoding]:
        """(prefix of the text that settles this many tokens, or the whole text; its encoding)."""
        text = text[:MAX_CHARS]
        n_chars = self._uncut_chars
        while True:
            prefix = self._shorten(_readable(text[:n_chars]))
            encoding = self._tokenizer.encode_batch([prefix])[0]  # unlike `encode`, this releases the GIL
            if n_chars >= len(text) or self._n_settled(encoding, len(prefix)) >= n_tokens:
                return prefix, encoding
            n_chars *= GROWTH

    def chars_read(self, text: str) -> int:
        """Number of characters that :meth:`ids` must look at, of all prefixes together; far cheaper than looking at them."""
        if len(text) <= self._uncut_chars:
            return len(text)
        words = self._enough_words.match(text)  # a word has at least one token
        end = len(text) if words is None else words.end()
        n_chars = n_read = self._uncut_chars
        while n_chars < end:
            n_chars = min(GROWTH * n_chars, len(text))
            n_read += n_chars
        return n_read

    def _tail(self, text: str, target: str | None) -> Encoding:
        """The encoding of the last tokens. A suffix is read that grows until it has enough tokens after its first, cut word."""
        n_chars = self._uncut_chars
        while True:
            suffix = text[-min(n_chars, MAX_CHARS) :]
            encoding = self._tokenizer.encode_batch([suffix if target is None else (suffix, target)])[0]
            pieces = [encoding, *encoding.overflowing]
            words = [word for piece in pieces for word, part in zip(piece.word_ids, piece.sequence_ids, strict=True) if part == 0]
            if n_chars >= min(len(text), MAX_CHARS) or sum(word is not None and word > 0 for word in words) >= self._max_tokens:
                return encoding
            n_chars *= GROWTH

    def _n_settled(self, encoding: Encoding, n_chars: int) -> int:
        """Number of tokens of a prefix of n_chars characters that no continuation can change."""
        pieces = [encoding, *encoding.overflowing]
        tokens = [
            (word, end)
            for piece in pieces
            for word, (_, end) in zip(piece.word_ids, piece.offsets, strict=True)
            if word is not None
        ]
        last_word = max((word for word, _ in tokens), default=0)
        whole_until = n_chars - MARGIN
        inside_until = 0 if self._runs else n_chars - INSIDE_WORD_MARGIN
        return sum((word < last_word and end <= whole_until) or end <= inside_until for word, end in tokens)

    def _shorten(self, prefix: str) -> str:
        """Leave out the middle of overlong runs; the tokens stay the same."""
        if self._cleans:
            if self._dropped is None:
                self._dropped = _dropped_runs(self._tokenizer)
            prefix = self._dropped.sub(_shorter, prefix)
        for run in self._runs:
            prefix = run.sub(lambda match: match[0][: self._kept_head] + match[0][-_KEPT_TAIL:], prefix)
        return prefix


def _decoded(text: str | bytes) -> str:
    """The text; bytes are decoded as UTF-8, at most as many as are ever read, with U+FFFD for invalid ones."""
    return text if isinstance(text, str) else text[: MAX_CHARS * BYTES_PER_CHAR].decode("utf-8", "replace")


def _short_target(target: str) -> str:
    """The target; raises UserError if it is too long."""
    if len(target) > MAX_TARGET_CHARS:
        raise UserError(f"a target has {len(target)} characters; at most {MAX_TARGET_CHARS} are allowed, shorten it")
    return target


def _dropped_runs(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Runs of spaces and of characters that a BERT tokenizer's normalizer drops, as it shows by dropping them; takes 20 ms."""
    every = map(chr, range(0x10000))  # with characters above these the pattern would be slow
    maybe = [one for one in every if unicodedata.category(one) in _MAYBE_DROPPED and not one.isspace()]
    kept = set(tokenizer.normalizer.normalize_str("".join(maybe)))
    dropped = [ord(character) for character in maybe if character not in kept] if kept <= set(maybe) else []
    kind = f"[{''.join(_ranges(dropped))}{_PRIVATE}{_SPACES}]"
    return re.compile(f"(?<!{kind}){kind}{{{2 * _KEPT_DROPPED + 2},}}")


def _ranges(places: list[int]) -> list[str]:
    """Code points in ascending order as ranges of a character class."""
    found: list[list[int]] = []
    for at in places:
        if found and found[-1][1] == at - 1:
            found[-1][1] = at
        else:
            found.append([at, at])
    return [rf"\U{first:08x}-\U{last:08x}" for first, last in found]


def _shorter(match: re.Match[str]) -> str:
    """Both ends of a run, and a space if its middle has one."""
    run = match[0]
    middle = " " if any(space in run for space in " \t\n\r") or (not run.isascii() and _ANY_SPACE.search(run)) else ""
    return run[:_KEPT_DROPPED] + middle + run[-_KEPT_DROPPED:]


def _readable(text: str) -> str:
    """Replace each lone surrogate by U+FFFD; every other character keeps its position."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _runs_to_shorten(layout: _Layout, max_tokens: int) -> tuple[list[re.Pattern[str]], int]:
    """(patterns of the runs that may be shortened for this tokenizer, none if unsure; characters kept at their head)."""
    parts = (layout.model.type, layout.normalizer and layout.normalizer.type, layout.pre_tokenizer and layout.pre_tokenizer.type)
    special = all(_BRACKETED.fullmatch(token.content) for token in layout.added_tokens)
    if parts != ("WordPiece", "BertNormalizer", "BertPreTokenizer") or not special:
        return [], 0
    head = max(layout.model.max_input_chars_per_word, max_tokens) + 1
    longer = f"{{{head + _KEPT_TAIL + 1},}}"
    # Each looks back, so that it is tried once a run: tried at every character, a text of runs just too short costs their square.
    runs = [
        rf"(?<![^\W_{_IDEOGRAPHS}])[^\W_{_IDEOGRAPHS}]{longer}",
        rf"(?<![{_SPACES}])[{_SPACES}]{longer}",
        rf"(.)(?<!\1\1)\1{longer}",
    ]
    return [re.compile(run, re.DOTALL) for run in runs], head


def padded(feeds: Sequence[Feeds], pad_id: int, n_tokens: int) -> Feeds:
    """Pad the inputs of B texts to one batch, int64 [B, n_tokens]; the padding is masked.

    Args:
        feeds: int64 [1, T] by input name, one entry for each text.
        pad_id: token id of the padding.
        n_tokens: width of the batch, at least the longest T.
    """
    fill = {"input_ids": pad_id, "attention_mask": 0, "token_type_ids": 0}
    return {
        name: np.concatenate(
            [np.pad(feed[name], ((0, 0), (0, n_tokens - feed[name].shape[1])), constant_values=fill[name]) for feed in feeds]
        )
        for name in feeds[0]
    }
