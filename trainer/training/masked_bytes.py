"""Masked reading of a charformer: spans of bytes are hidden, and the encoder's positions must say which they were.

Axes: B texts in a batch, T bytes, S positions, V ids, N bytes that are asked about.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from potstill.trainer.config import TrainConfig
from potstill.trainer.recipe import find_recipe
from potstill.trainer.students.encoder import Encoder
from potstill.trainer.training.pretrain import NOTHING, Reading

SHARE = 0.2  # of the bytes that are hidden
SPAN = 5  # bytes hidden at once, about a word: a single one is guessed from its neighbours


class ByteGuesser(nn.Module):
    """A charformer's byte encoder, and a guess at every byte of each position."""

    def __init__(self, student: Encoder) -> None:
        """The guesses are drawn from torch's generator; the byte encoder is the student's own."""
        super().__init__()
        self.config = student.model.config
        self.bytes = student.model.bytes
        self.guess = nn.Linear(self.config.hidden_size, self.config.stride * self.config.vocab_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, asked: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """The mean loss over the bytes that are asked about, in nats. Args: all int64 [B, T]."""
        states, _ = self.bytes(input_ids, attention_mask, token_type_ids if self.config.pair else None)
        logits = self.guess(states).reshape(len(asked), -1, self.config.vocab_size)[:, : asked.shape[1]]  # [B, T, V]
        return nn.functional.cross_entropy(logits.transpose(1, 2), asked, ignore_index=NOTHING)


def byte_reading(student: Encoder, config: TrainConfig) -> Reading:
    """How a charformer reads hidden bytes, all of it at the body's rate."""
    guesser = ByteGuesser(student)
    rate = config.learning_rate or find_recipe(config.family).rate
    hide = partial(hide_spans, student.tokenizer.mask_token_id)
    return Reading(guesser, hide, [{"params": list(guesser.parameters()), "lr": rate}], "byte")


def hide_spans(mask_id: int, ids: Tensor, mask: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """(ids with spans replaced by the mask's id, the hidden ids and `NOTHING` elsewhere), both int64 [B, T].

    Spans start at random; padding is never hidden, and each batch has something hidden.
    """
    starts = torch.rand(ids.shape, generator=draw).to(ids.device) < SHARE / SPAN
    starts[0, 0] = True
    hidden = torch.zeros_like(starts)
    for shift in range(SPAN):
        hidden[:, shift:] |= starts[:, : ids.shape[1] - shift]
    hidden &= mask.bool()
    return ids.masked_fill(hidden, mask_id), ids.masked_fill(~hidden, NOTHING)
