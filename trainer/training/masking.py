"""Masked objectives: an encoder predicts masked tokens (task-adaptive pretraining), a charformer masked spans of bytes.

Source: Gururangan et al. 2020, arXiv:2004.10964, section 3.2 (TAPT); tokens are masked as in Devlin et al. 2019,
arXiv:1810.04805, section 3.1.

Axes: B texts in a batch, T ids, H width, V ids of the vocabulary, N ids to predict.
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
from potstill.trainer.training.pretrain import IGNORED, MaskedObjective

SHARE = 0.15  # of the tokens: to predict
MASKED, SWAPPED = 0.8, 0.1  # of these: replaced by the mask, by any token; the rest stay as they are


def masked_objective(student: Encoder, folder: Path, config: TrainConfig) -> MaskedObjective:
    """The objective of the student's family; a static student has none.

    Args:
        folder: what the student started from.
    Raises:
        UserError: if an encoder cannot predict masked tokens, see :func:`token_objective`.
    """
    return byte_objective(student, config) if config.family == "charformer" else token_objective(student, folder, config)


# --- tokens


class PassedStates(nn.Module):
    """Stand in for the body of a masked language model and pass on given states, so that the model is only its head."""

    def forward(self, input_ids: None = None, *, inputs_embeds: Tensor, **_: Any) -> BaseModelOutput:
        """The states, float [1, N, H]."""
        return BaseModelOutput(last_hidden_state=inputs_embeds)


class TokenPredictor(nn.Module):
    """An encoder's body under the head of a masked language model, which sees only the tokens to predict."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        """Args: body, the student's own; head, from :func:`_head`."""
        super().__init__()
        self.body, self.head = body, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, targets: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Mean loss of the tokens to predict, in nats, a scalar. Args: all int64 [B, T]."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.body(input_ids=input_ids, attention_mask=attention_mask, **types)[0]  # [B, T, H]
        chosen = targets != IGNORED
        given = states[chosen].unsqueeze(0)  # [1, N, H]; a head over all tokens would double the cost of a step
        return nn.functional.cross_entropy(self.head(inputs_embeds=given).logits[0], targets[chosen])


def token_objective(student: Encoder, folder: Path, config: TrainConfig) -> MaskedObjective:
    """The masked objective of an encoder.

    Args:
        folder: what the student started from. If it has the head of a masked language model, that one predicts; else a new one of
            the architecture's kind, with its decoder tied to the word embeddings, which learns at the rate of a new head.
    Raises:
        UserError: if the tokenizer has no mask, or the architecture no masked language model.
    """
    tokenizer = student.tokenizer
    if tokenizer.mask_token_id is None:
        raise UserError(f"{folder}: its tokenizer has no mask token, so no token can be masked; leave out --tapt")
    head, is_new = _head(student.model, folder)
    body = student.model.base_model
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(".pooler." not in f".{name}")  # the pooler takes no part in predicting tokens
    recipe = find_recipe(config.family)
    rate = config.learning_rate or recipe.rate
    own = [parameter for parameter in body.parameters() if parameter.requires_grad]
    known = {id(parameter) for parameter in own}
    others = [parameter for parameter in head.parameters() if id(parameter) not in known]
    groups = [{"params": own, "lr": rate}, {"params": others, "lr": (config.head_rate or recipe.head_rate) if is_new else rate}]
    mask_ids = TokenMasking(tokenizer.mask_token_id, tuple(tokenizer.all_special_ids), student.model.config.vocab_size)
    return MaskedObjective(TokenPredictor(body, head), mask_ids, groups, "token", ", predicted by a new head" if is_new else "")


@dataclass(frozen=True)
class TokenMasking:
    """Mask tokens of a vocabulary."""

    mask_id: int
    special_ids: tuple[int, ...]  # never masked
    vocab_size: int

    def __call__(self, ids: Tensor, mask: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """(ids with some masked, the tokens to predict and `IGNORED` elsewhere), int64 [B, T]; at least one is to predict."""
        chance = torch.rand(ids.shape, generator=draw).to(ids.device)
        fate = torch.rand(ids.shape, generator=draw).to(ids.device)
        any_token = torch.randint(self.vocab_size, ids.shape, generator=draw).to(ids.device)
        fits = mask.bool() & ~torch.isin(ids, torch.tensor(self.special_ids, device=ids.device))
        targets = fits & (chance < SHARE)
        if not targets.any():
            first = fits if fits.any() else mask.bool()
            targets = (first.flatten().cumsum(0) == 1).reshape(ids.shape) & first
        hidden = ids.masked_fill(targets & (fate < MASKED), self.mask_id)
        hidden = torch.where(targets & (fate >= MASKED) & (fate < MASKED + SWAPPED), any_token, hidden)
        return hidden, ids.masked_fill(~targets, IGNORED)


def _head(student: PreTrainedModel, folder: Path) -> tuple[nn.Module, bool]:
    """(the head of the architecture's masked language model, whether it is new because the folder has none)."""
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
    setattr(model, prefix, PassedStates())
    return model, any(not name.startswith(f"{prefix}.") for name in info["missing_keys"])


# --- bytes

BYTE_SHARE = 0.2  # of the bytes: masked
SPAN = 5  # bytes masked at once, about a word: a single one would follow from its neighbours


class BytePredictor(nn.Module):
    """A charformer's byte encoder under a layer that predicts every byte of each position."""

    def __init__(self, student: Encoder) -> None:
        """Draw the new layer from torch's generator; the byte encoder is the student's own."""
        super().__init__()
        self.config = student.model.config
        self.bytes = student.model.bytes
        self.guess = nn.Linear(self.config.hidden_size, self.config.stride * self.config.vocab_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, targets: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Mean loss of the masked bytes, in nats, a scalar. Args: all int64 [B, T]."""
        states, _ = self.bytes(input_ids, attention_mask, token_type_ids if self.config.pair else None)
        logits = self.guess(states).reshape(len(targets), -1, self.config.vocab_size)[:, : targets.shape[1]]  # [B, T, V]
        return nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED)


def byte_objective(student: Encoder, config: TrainConfig) -> MaskedObjective:
    """The masked objective of a charformer; everything learns at the body's rate."""
    predictor = BytePredictor(student)
    rate = config.learning_rate or find_recipe(config.family).rate
    mask_ids = partial(mask_spans, student.tokenizer.mask_token_id)
    return MaskedObjective(predictor, mask_ids, [{"params": list(predictor.parameters()), "lr": rate}], "byte")


def mask_spans(mask_id: int, ids: Tensor, mask: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """(ids with spans replaced by the mask's id, the masked ids and `IGNORED` elsewhere), both int64 [B, T].

    Spans start at random; padding is never masked, and every batch has a masked span.
    """
    starts = torch.rand(ids.shape, generator=draw).to(ids.device) < BYTE_SHARE / SPAN
    starts[0, 0] = True
    hidden = torch.zeros_like(starts)
    for shift in range(SPAN):
        hidden[:, shift:] |= starts[:, : ids.shape[1] - shift]
    hidden &= mask.bool()
    return ids.masked_fill(hidden, mask_id), ids.masked_fill(~hidden, IGNORED)
