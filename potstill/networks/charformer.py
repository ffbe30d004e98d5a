"""A charformer student: bytes, soft subwords, a small transformer encoder over a quarter as many positions, mean and head.

Axes: B texts in a batch, T bytes, S positions, H width, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.bert.modeling_bert import BertEncoder

from potstill.networks.blocks import SoftBlocks


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
        """Args: max_position_embeddings counts bytes; stride: bytes of a position of the encoder; pair: with target."""
        super().__init__(**more)
        self.vocab_size, self.hidden_size, self.intermediate_size = vocab_size, hidden_size, intermediate_size
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.max_position_embeddings, self.stride = max_position_embeddings, stride
        self.pair, self.dropout = pair, dropout


class ByteEncoder(nn.Module):
    """Bytes to a vector for every few of them."""

    def __init__(self, config: CharformerConfig) -> None:
        """Draw all weights from torch's generator."""
        super().__init__()
        n_positions = -(-config.max_position_embeddings // config.stride) + 12  # what filling up to whole blocks may add
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.segments = nn.Embedding(2, config.hidden_size)  # text and target
        self.blocks = SoftBlocks(config.hidden_size, config.stride)
        self.positions = nn.Embedding(n_positions, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = BertEncoder(_bert(config))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """(float [B, S, H], mask float [B, S]) of ids and mask int64 [B, T]."""
        x = self.embeddings(input_ids)
        if token_type_ids is not None:
            x = x + self.segments(token_type_ids)
        x, mask = self.blocks(x, attention_mask.to(x.dtype))
        places = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
        x = self.dropout(self.norm(x + self.positions(places)))
        hidden = self.encoder(x, attention_mask=(1.0 - mask)[:, None, None, :] * torch.finfo(torch.float32).min)[0]
        return hidden, mask


class CharformerForSequenceClassification(PreTrainedModel):
    """Byte encoder, mean over positions and head, as `transformers` saves and loads it."""

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
        """As BERT's; convolutions keep torch's own start."""
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(mean=0.0, std=0.02 if isinstance(module, nn.Linear) else 0.1)
        if isinstance(module, nn.Linear):
            module.bias.data.zero_()

    def get_input_embeddings(self) -> nn.Embedding:
        """The bytes' vectors."""
        return self.bytes.embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> SequenceClassifierOutput:
        """Logits float [B, C] of ids int64 [B, T]."""
        hidden, mask = self.bytes(input_ids, attention_mask, token_type_ids if self.config.pair else None)
        mean = torch.bmm(mask.unsqueeze(1), hidden).squeeze(1) / mask.sum(dim=1, keepdim=True).clamp_min(1)  # [B, H]
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(torch.tanh(self.dense(self.dropout(mean))))))


def _bert(config: CharformerConfig) -> BertConfig:
    """The encoder's sizes as BERT's code takes them."""
    bert = BertConfig(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
    )
    bert._attn_implementation = "eager"  # the shape that graph optimizers look for
    return bert
