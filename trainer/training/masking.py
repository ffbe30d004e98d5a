"""Masked reading of an encoder (task-adaptive pre-training): some of the tokens are hidden, and it must say which they were.

Source: Gururangan et al. 2020, arXiv:2004.10964, section 3.2 (TAPT); what is hidden as in Devlin et al. 2019, arXiv:1810.04805,
section 3.1.

Axes: B texts in a batch, T tokens, H width, V ids, N tokens that are asked about.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from potstill.contract.errors import UserError
from potstill.trainer.config import TrainConfig, find_recipe
from potstill.trainer.students.encoder import Encoder, quiet
from potstill.trainer.training.pretrain import NOTHING, Reading

SHARE = 0.15  # of the tokens that are asked about
MASKED, SWAPPED = 0.8, 0.1  # of those: hidden behind the mask, replaced by any token; the rest stay, and are asked about too


class GivenStates(nn.Module):
    """Stands where a masked language model has its body, and hands on the states that it is given: what is left is its head."""

    def forward(self, input_ids: None = None, *, inputs_embeds: Tensor, **_: Any) -> BaseModelOutput:
        """The states, float [1, N, H]."""
        return BaseModelOutput(last_hidden_state=inputs_embeds)


class TokenGuesser(nn.Module):
    """An encoder's body under the head of a masked language model, which sees only the tokens that are asked about."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        """Args: body is the student's own; head as :func:`_head` gives it."""
        super().__init__()
        self.body, self.head = body, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, asked: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """The mean loss over the tokens that are asked about, in nats. Args: all int64 [B, T]."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.body(input_ids=input_ids, attention_mask=attention_mask, **types)[0]  # [B, T, H]
        chosen = asked != NOTHING
        given = states[chosen].unsqueeze(0)  # [1, N, H]; a head over all tokens would double the cost of a step
        return nn.functional.cross_entropy(self.head(inputs_embeds=given).logits[0], asked[chosen])


def token_reading(student: Encoder, folder: Path, config: TrainConfig) -> Reading:
    """How an encoder reads hidden tokens.

    Args:
        folder: what the student started from. If it has a head of a masked language model, that one guesses; else a new one of the
            architecture's kind, its decoder tied to the word embeddings, which learns at a head's rate.
    Raises:
        UserError: if the tokenizer has no mask, or the architecture no masked language model.
    """
    tokenizer = student.tokenizer
    if tokenizer.mask_token_id is None:
        raise UserError(f"{folder}: its tokenizer has no mask token, so no token can be hidden; leave out --tapt")
    head, is_new = _head(student.model, folder)
    body = student.model.base_model
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(".pooler." not in f".{name}")  # nothing that is asked about passes through it
    recipe = find_recipe(config.family)
    rate = config.learning_rate or recipe.rate
    own = [parameter for parameter in body.parameters() if parameter.requires_grad]
    known = {id(parameter) for parameter in own}
    others = [parameter for parameter in head.parameters() if id(parameter) not in known]
    groups = [{"params": own, "lr": rate}, {"params": others, "lr": (config.head_rate or recipe.head_rate) if is_new else rate}]
    hide = TokenHiding(tokenizer.mask_token_id, tuple(tokenizer.all_special_ids), student.model.config.vocab_size)
    return Reading(TokenGuesser(body, head), hide, groups, "token", ", guessed by a new head" if is_new else "")


@dataclass(frozen=True)
class TokenHiding:
    """Hides tokens of a vocabulary."""

    mask_id: int
    special_ids: tuple[int, ...]  # never hidden
    vocab_size: int

    def __call__(self, ids: Tensor, mask: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """(ids with tokens hidden, those that are asked about and `NOTHING` elsewhere), int64 [B, T]; one at least is asked."""
        chance = torch.rand(ids.shape, generator=draw).to(ids.device)
        fate = torch.rand(ids.shape, generator=draw).to(ids.device)
        any_token = torch.randint(self.vocab_size, ids.shape, generator=draw).to(ids.device)
        fits = mask.bool() & ~torch.isin(ids, torch.tensor(self.special_ids, device=ids.device))
        asked = fits & (chance < SHARE)
        if not asked.any():
            first = fits if fits.any() else mask.bool()
            asked = (first.flatten().cumsum(0) == 1).reshape(ids.shape) & first
        hidden = ids.masked_fill(asked & (fate < MASKED), self.mask_id)
        hidden = torch.where(asked & (fate >= MASKED) & (fate < MASKED + SWAPPED), any_token, hidden)
        return hidden, ids.masked_fill(~asked, NOTHING)


def _head(student: PreTrainedModel, folder: Path) -> tuple[nn.Module, bool]:
    """(the head of the architecture's masked language model, whether it was drawn anew for want of weights)."""
    try:
        with quiet():
            model, info = AutoModelForMaskedLM.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
    except ValueError as error:  # transformers has no such class
        kind = student.config.model_type
        raise UserError(f"{folder}: transformers knows no masked language model of kind {kind}; leave out --tapt") from error
    prefix = model.base_model_prefix
    decoder = model.get_output_embeddings()
    if decoder is not None and model.config.tie_word_embeddings:
        decoder.weight = student.get_input_embeddings().weight
    setattr(model, prefix, GivenStates())
    return model, any(not name.startswith(f"{prefix}.") for name in info["missing_keys"])


BYTE_SHARE = 0.2  # of the bytes that are hidden
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
    starts = torch.rand(ids.shape, generator=draw).to(ids.device) < BYTE_SHARE / SPAN
    starts[0, 0] = True
    hidden = torch.zeros_like(starts)
    for shift in range(SPAN):
        hidden[:, shift:] |= starts[:, : ids.shape[1] - shift]
    hidden &= mask.bool()
    return ids.masked_fill(hidden, mask_id), ids.masked_fill(~hidden, NOTHING)
