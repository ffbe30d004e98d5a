"""A static student: a vector and a weight for every token, the vectors' weighted mean and extremes, and a small head.

There is no attention between tokens. A mean dilutes the one word that decides a long text; the maximum and minimum do not.

Axes: B texts in a batch, T tokens, H numbers of a vector, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

MIN_WEIGHT = 1e-6  # of a whole text; keeps the mean of a text without tokens finite
AWAY = 1e4  # beyond every number of a vector; moves masked tokens out of maximum and minimum


class StaticConfig(PretrainedConfig):
    """Sizes of a static student."""

    model_type = "potstill-static"

    def __init__(
        self,
        vocab_size: int = 1,
        hidden_size: int = 256,
        head_size: int = 128,
        pair: bool = False,
        dropout: float = 0.3,
        **more: Any,
    ) -> None:
        """Args: hidden_size, of a vector; head_size, of the hidden layer; pair, whether text and target are pooled separately."""
        super().__init__(**more)
        self.vocab_size, self.hidden_size, self.head_size = vocab_size, hidden_size, head_size
        self.pair, self.dropout = pair, dropout


class Bag(nn.Module):
    """Pool the tokens' vectors: weighted mean, maximum and minimum."""

    def __init__(self, config: StaticConfig) -> None:
        """Start with zero vectors of equal weight."""
        super().__init__()
        self.vectors = nn.Embedding(config.vocab_size, config.hidden_size)
        self.log_weights = nn.Embedding(config.vocab_size, 1)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Pooled vectors, float [B, 3 H]; zeros for a text without tokens. Args: input_ids int64 [B, T]; mask float [B, T].

        The sums are matrix products, which add in the order of the tokens: padding then does not change a single bit.
        """
        vectors = self.vectors(input_ids)  # [B, T, H]
        weights = torch.exp(self.log_weights(input_ids)).squeeze(-1) * mask  # [B, T]
        total = torch.bmm(weights.unsqueeze(1), vectors).squeeze(1)  # [B, H]
        norm = torch.bmm(weights.unsqueeze(1), torch.ones_like(mask).unsqueeze(2)).squeeze(1)  # [B, 1]
        away = AWAY * (1 - mask).unsqueeze(-1)  # [B, T, 1]
        some = mask.amax(dim=1, keepdim=True)  # [B, 1]
        largest, least = (vectors - away).amax(dim=1) * some, (vectors + away).amin(dim=1) * some
        return torch.cat([total / norm.clamp_min(MIN_WEIGHT), largest, least], dim=-1)


class StaticForSequenceClassification(PreTrainedModel):
    """Pooling and head, in the form that `transformers` saves and loads."""

    config_class = StaticConfig
    base_model_prefix = "bag"
    main_input_name = "input_ids"

    def __init__(self, config: StaticConfig) -> None:
        """Draw the head from torch's generator."""
        super().__init__(config)
        self.bag = Bag(config)
        self.dropout = nn.Dropout(config.dropout)
        self.dense = nn.Linear(3 * config.hidden_size * (2 if config.pair else 1), config.head_size)
        self.classifier = nn.Linear(config.head_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Initialize weights that were not loaded."""
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight)

    def get_input_embeddings(self) -> nn.Embedding:
        """The vectors of the tokens."""
        return self.bag.vectors

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> SequenceClassifierOutput:
        """Logits float [B, C]. Args: all int64 [B, T]; with `pair`, token types are 0 in the text and 1 in the target."""
        mask = attention_mask.to(self.dense.weight.dtype)
        if self.config.pair and token_type_ids is not None:
            of_target = token_type_ids.to(mask.dtype)
            parts = [self.bag(input_ids, mask * (1 - of_target)), self.bag(input_ids, mask * of_target)]
            pooled = torch.cat(parts, dim=-1)
        else:
            pooled = self.bag(input_ids, mask)
        hidden = torch.nn.functional.relu(self.dense(self.dropout(pooled)))
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(hidden)))
