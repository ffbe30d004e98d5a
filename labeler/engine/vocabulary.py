"""A model's vocabulary: text to tokens and back, with the model's weights or without them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from potstill.contract.errors import UserError
from potstill.labeler.engine import library as llama_cpp
from potstill.labeler.engine.llama_bindings import capture_log, clear_errors, last_errors

_WHITESPACE = " \t\n\v\f\r"  # what C's isspace() accepts, for control tokens that strip what stands beside them


@dataclass(frozen=True)
class Parted:
    """A text around its control tokens: `before`, tokens from the first control token to the last one, `after`."""

    before: str  # all of the text where it has no control token
    tokens: list[int]
    after: str
    strips_before: bool = False  # whether the first control token removes the whitespace before it
    strips_after: bool = False  # whether the last one removes the whitespace after it

    def follow(self, text: str) -> str:
        """The raw text after the last control token, when more text follows."""
        joined = self.after + text
        return joined.lstrip(_WHITESPACE) if self.strips_after else joined

    def precede(self, text: str) -> str:
        """The raw text before the first control token, when more text precedes."""
        joined = text + self.before
        return joined.rstrip(_WHITESPACE) if self.strips_before else joined


class Vocabulary:
    """The tokens of one model."""

    def __init__(self, handle: Any) -> None:
        """Args: handle, llama.cpp's; its owner frees it."""
        self._vocab = handle
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(handle)

    @cached_property
    def opening(self) -> list[int]:
        """The token (BOS) that begins every prompt; empty where the model has none. What would end an input (EOS) is left out."""
        plain, whole = self.tokenize("x"), self.tokenize("x", start=True)
        return whole[:1] if whole[1 : 1 + len(plain)] == plain else []

    @property
    def bos(self) -> str:
        """How the vocabulary spells the token that opens a text; empty if it has none."""
        return self.spelling(llama_cpp.llama_vocab_bos(self._vocab))

    @property
    def eos(self) -> str:
        """How the vocabulary spells the token that ends a turn; empty if it has none."""
        return self.spelling(llama_cpp.llama_vocab_eos(self._vocab))

    @property
    def adds_bos(self) -> bool:
        """Whether :meth:`tokenize` puts the opening token first where a text begins the prompt."""
        return bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))

    def tokenize(self, text: str, *, start: bool = False, control: bool = False) -> list[int]:
        """Token ids of the text.

        Args:
            text: any string; lone surrogates become question marks.
            start: whether the text begins the prompt, so that the model's opening token (BOS) is put before it.
            control: whether control tokens spelled in the text are parsed as such; off, they stay plain text.
        """
        raw = text.encode("utf-8", "replace")
        size = len(raw) + 8
        buffer = (llama_cpp.llama_token * size)()
        n = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), buffer, size, start, control)
        return list(buffer[:n])

    def tokenize_on(self, text: str) -> list[int]:
        """Token ids of a text that goes on after another one, so that no space is put before its first word."""
        for before in ("\n", "x", "1"):
            head, whole = self.tokenize(before), self.tokenize(before + text)
            if head and whole[: len(head)] == head:
                return whole[len(head) :]
        return self.tokenize(text)

    def part(self, text: str) -> Parted:
        """The text with its control tokens parsed, and what stands before and after them.

        llama.cpp tokenizes the text between two control tokens by itself. So a text that follows the last control token must be
        joined with what already follows it, and only then be tokenized.

        Raises:
            UserError: if tokenizing the parts gives other tokens than the whole text has.
        """
        whole = self.tokenize(text, control=True)
        controls = [i for i, token in enumerate(whole) if self.is_control(token)]
        if not controls:
            return Parted(text, [], "")
        first, last = whole[controls[0]], whole[controls[-1]]
        begin, end = text.find(self.spelling(first)), text.rfind(self.spelling(last)) + len(self.spelling(last))
        tokens = whole[controls[0] : controls[-1] + 1]
        parted = Parted(text[:begin], tokens, text[end:], self._strips(first, "LSTRIP"), self._strips(last, "RSTRIP"))
        if self.tokenize(parted.precede("")) + tokens + self.tokenize(parted.follow("")) != whole:
            raise UserError("the teacher's vocabulary has no clear place for the chat template's marks; use --template plain")
        return parted

    def piece(self, token: int) -> bytes:
        """The bytes of a token."""
        buffer = ctypes.create_string_buffer(256)
        n = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(n, 0)]

    def spelling(self, token: int) -> str:
        """How the vocabulary spells a token: `<|im_end|>`; empty for an id that it does not have."""
        found = llama_cpp.llama_vocab_get_text(self._vocab, token) if token >= 0 else b""
        return bytes(found or b"").decode("utf-8", "replace")

    def is_control(self, token: int) -> bool:
        """Whether the token is a control token, which has no text."""
        return bool(llama_cpp.llama_vocab_is_control(self._vocab, token))

    def ends(self, token: int) -> bool:
        """Whether the token ends the model's turn."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocab, token))

    def _strips(self, token: int, side: str) -> bool:
        """Whether the token removes whitespace beside it. Args: side, LSTRIP or RSTRIP."""
        flag = int(getattr(llama_cpp, f"LLAMA_TOKEN_ATTR_{side}"))
        return bool(llama_cpp.llama_vocab_get_attr(self._vocab, token) & flag)


@contextmanager
def open_vocabulary(path: Path) -> Iterator[Vocabulary]:
    """The vocabulary of a GGUF file, without its weights.

    Raises:
        UserError: if llama.cpp cannot read it; the message quotes its log.
    """
    capture_log()
    llama_cpp.llama_backend_init()
    clear_errors()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise UserError(f"{path}: llama.cpp cannot read its vocabulary ({last_errors()}); check it with: potstill models verify")
    try:
        yield Vocabulary(llama_cpp.llama_model_get_vocab(model))
    finally:
        llama_cpp.llama_model_free(model)
