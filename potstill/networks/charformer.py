"""A charformer student: bytes, soft subwords, a small transformer encoder over a quarter as many positions, mean and head.

Soft subwords are a mix of the blocks of 1 to 4 bytes around each byte, weighted by a learned score, then pooled to fewer positions.

Axes: B texts in a batch, T bytes, L bytes padded to whole blocks, S = L / stride positions, H width, C classes.
Source: Tay et al. 2021, Charformer, arXiv:2106.12672, section 2.1 (gradient-based subword tokenization), without its optional
calibration of scores across positions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.bert.modeling_bert import BertEncoder

SIZES = (1, 2, 3, 4)  # bytes of the candidate blocks
KERNEL = 5  # bytes mixed before they form blocks, so that a block depends on its place in a word


class CharformerConfig(PretrainedConfig):
    """Sizes of a charformer."""

    model_type = "potstill-charformer"

    def __init__(
        self,
        vocab_size: int = 260,
        hidden_size: int = 192,
        num_hidden_layers: int = 3,
        num_attention_heads: int = 4,
        intermediate_size: int = 768,
        max_position_embeddings: int = 512,
        stride: int = 4,
        pair: bool = False,
        dropout: float = 0.1,
        **more: Any,
    ) -> None:
        """Args: max_position_embeddings, in bytes; stride, bytes for each position of the encoder; pair, with target."""
        super().__init__(**more)
        self.vocab_size, self.hidden_size, self.intermediate_size = vocab_size, hidden_size, intermediate_size
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.max_position_embeddings, self.stride = max_position_embeddings, stride
        self.pair, self.dropout = pair, dropout


class ByteEncoder(nn.Module):
    """Encode bytes as one vector for every `stride` of them."""

    def __init__(self, config: CharformerConfig) -> None:
        """Draw all weights from torch's generator."""
        super().__init__()
        n_positions = -(-config.max_position_embeddings // config.stride) + 12  # room for padding to whole blocks
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.segments = nn.Embedding(2, config.hidden_size)  # text and target
        self.blocks = SoftBlocks(config.hidden_size, config.stride)
        self.positions = nn.Embedding(n_positions, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = BertEncoder(_bert(config))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """(hidden states float [B, S, H], mask float [B, S]). Args: all int64 [B, T]."""
        x = self.embeddings(input_ids)
        if token_type_ids is not None:
            x = x + self.segments(token_type_ids)
        x, mask = self.blocks(x, attention_mask.to(x.dtype))
        places = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
        x = self.dropout(self.norm(x + self.positions(places)))
        hidden = self.encoder(x, attention_mask=(1.0 - mask)[:, None, None, :] * torch.finfo(torch.float32).min)[0]
        return hidden, mask


class CharformerForSequenceClassification(PreTrainedModel):
    """Byte encoder, mean over positions and head, in the form that `transformers` saves and loads."""

    config_class = CharformerConfig
    base_model_prefix = "bytes"
    main_input_name = "input_ids"

    def __init__(self, config: CharformerConfig) -> None:
        """Draw all weights from torch's generator."""
        super().__init__(config)
        self.bytes = ByteEncoder(config)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as BERT does; convolutions keep torch's default."""
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(mean=0.0, std=0.02 if isinstance(module, nn.Linear) else 0.1)
        if isinstance(module, nn.Linear):
            module.bias.data.zero_()

    def get_input_embeddings(self) -> nn.Embedding:
        """The embeddings of the bytes."""
        return self.bytes.embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> SequenceClassifierOutput:
        """Logits float [B, C]. Args: all int64 [B, T]."""
        hidden, mask = self.bytes(input_ids, attention_mask, token_type_ids if self.config.pair else None)
        mean = torch.bmm(mask.unsqueeze(1), hidden).squeeze(1) / mask.sum(dim=1, keepdim=True).clamp_min(1)  # [B, H]
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(torch.tanh(self.dense(self.dropout(mean))))))


def _bert(config: CharformerConfig) -> BertConfig:
    """The encoder's sizes as a BERT configuration."""
    bert = BertConfig(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
    )
    bert._attn_implementation = "eager"  # the graph that optimizers recognize
    return bert


# --- soft subwords


class SoftBlocks(nn.Module):
    """Soft subwords of bytes, pooled to fewer positions; masked bytes have no influence."""

    def __init__(self, width: int, stride: int) -> None:
        """Args: width, of the bytes' vectors; stride, bytes for each position."""
        super().__init__()
        self.stride, self.period = stride, math.lcm(*SIZES, stride)
        self.near = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.across = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(float [B, S, H], mask float [B, S]). Args: x float [B, T, H], the bytes; mask float [B, T]."""
        x = x * mask.unsqueeze(-1)
        x = x + self.across(torch.nn.functional.gelu(self.near(x.transpose(1, 2)).transpose(1, 2)))
        x, mask = self._whole(x * mask.unsqueeze(-1)), self._whole(mask.unsqueeze(-1))  # [B, L, H], [B, L, 1]
        blocks = torch.stack([_spread(_mean(x, mask, size), size) for size in SIZES], dim=2)  # [B, L, sizes, H]
        mixed = (torch.softmax(self.score(blocks), dim=2) * blocks).sum(dim=2)  # [B, L, H]
        return _mean(mixed * mask, mask, self.stride), _any(mask, self.stride)

    def _whole(self, x: Tensor) -> Tensor:
        """Pad [B, T, *] with zeros to the next multiple of the period, with operations that a traced graph can repeat."""
        fill = torch.zeros_like(x[:, :1]).expand(-1, self.period, -1)
        length = (x.shape[1] + self.period - 1) // self.period * self.period
        return torch.cat([x, fill], dim=1)[:, :length]


def _cut(x: Tensor, size: int) -> Tensor:
    """Cut [B, L, H] into blocks [B, L / size, size, H]."""
    return x.reshape(x.shape[0], -1, size, x.shape[2])


def _mean(x: Tensor, mask: Tensor, size: int) -> Tensor:
    """Mean of the unmasked bytes of each block, [B, L / size, H]; masked bytes are zeros already."""
    return _cut(x, size).sum(dim=2) / _cut(mask, size).sum(dim=2).clamp_min(1)


def _spread(blocks: Tensor, size: int) -> Tensor:
    """Repeat each block for each of its bytes, [B, L, H]."""
    return blocks.unsqueeze(2).expand(-1, -1, size, -1).reshape(blocks.shape[0], -1, blocks.shape[2])


def _any(mask: Tensor, size: int) -> Tensor:
    """1 where a position holds at least one unmasked byte, [B, L / size]."""
    return _cut(mask, size).amax(dim=2).squeeze(-1)
