"""Masked pre-training of a charformer: spans of bytes are hidden, and the encoder's positions must say which they were.

Axes: B texts in a batch, T bytes, S positions, V ids.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from contract.errors import UserError
from contract.soft_label import SoftLabel
from trainer import tokens
from trainer.config import TrainConfig
from trainer.loop import Progress
from trainer.students import Encoder

SHARE = 0.2  # of the bytes that are hidden
SPAN = 5  # bytes hidden at once, about a word: a single one is guessed from its neighbours
NOTHING = -100  # a byte that is not asked about, as torch's cross-entropy wants it


def pretrain(student: Encoder, rows: Sequence[SoftLabel], config: TrainConfig, progress: Progress | None) -> float:
    """Train the byte encoder in place on the texts alone, for the configured steps; the last tenth's mean loss, in nats a byte.

    Raises:
        UserError: if the loss stops being a number.
    """
    model, stride = student.model, student.model.config.stride
    features = student.encode([(row.text, row.target) for row in rows])
    guess = nn.Linear(model.config.hidden_size, stride * model.config.vocab_size).to(model.device)
    parameters = [*model.bytes.parameters(), *guess.parameters()]
    rate, _ = config.rates(len(rows))
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=config.pretrain + 1, pct_start=config.warmup_share)
    draw = random.Random(config.seed)
    losses: list[float] = []
    model.train()
    for step in range(config.pretrain):
        batch = tokens.pad([features[i] for i in draw.choices(range(len(features)), k=2 * config.batch_size)], student.pad_id)
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        hidden_bytes, asked = hide(batch["input_ids"], batch["attention_mask"], student.tokenizer.mask_token_id)
        states, _ = model.bytes(hidden_bytes, batch["attention_mask"], batch["token_type_ids"] if model.config.pair else None)
        logits = guess(states).reshape(len(asked), -1, model.config.vocab_size)[:, : asked.shape[1]]  # [B, T, V]
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), asked, ignore_index=NOTHING)
        if not torch.isfinite(loss):
            raise UserError(f"the loss of masked bytes became {loss.item()} at step {step + 1}; lower the learning rate")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if progress is not None:
            progress("pretrain", step + 1, config.pretrain, losses[-1])
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


def hide(ids: Tensor, mask: Tensor, mask_id: int) -> tuple[Tensor, Tensor]:
    """(ids with spans replaced by the mask's id, the hidden ids and `NOTHING` elsewhere), both int64 [B, T].

    Spans start at random, drawn from torch's generator; padding is never hidden, and each batch has something hidden.
    """
    starts = torch.rand(ids.shape, device=ids.device) < SHARE / SPAN
    starts[0, 0] = True
    hidden = torch.zeros_like(starts)
    for shift in range(SPAN):
        hidden[:, shift:] |= starts[:, : ids.shape[1] - shift]
    hidden &= mask.bool()
    return ids.masked_fill(hidden, mask_id), ids.masked_fill(~hidden, NOTHING)
