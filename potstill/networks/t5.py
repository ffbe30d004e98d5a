"""A student from the encoder of a T5. The classifier in `transformers` runs the decoder too, which is half of the work.

Axes: B texts in a batch, T tokens, H width, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

T5_KINDS = frozenset({"t5", "mt5"})  # model types whose encoder this is; both have the same network


class T5EncoderConfig(T5Config):
    """A T5's configuration, of which only the encoder's part is used."""

    model_type = "potstill-t5"

    @classmethod
    def of(cls, whole: T5Config) -> T5EncoderConfig:
        """Make the encoder's configuration from that of a whole T5."""
        values: dict[str, Any] = whole.to_dict()
        values.pop("model_type", None)
        return cls(**values | {"is_encoder_decoder": False, "use_cache": False})


class T5EncoderForSequenceClassification(T5PreTrainedModel):
    """Encoder, mean over tokens and head, in the form that `transformers` saves and loads.

    The weights of a whole T5 can be loaded, too: those of its decoder are ignored.
    """

    config_class = T5EncoderConfig
    base_model_prefix = "transformer"
    main_input_name = "input_ids"
    # What is tied, and to what; transformers 4 reads the names alone.
    _tied_weights_keys = {"transformer.encoder.embed_tokens.weight": "transformer.shared.weight"}
    _keys_to_ignore_on_load_unexpected = ["decoder", "lm_head"]

    def __init__(self, config: T5EncoderConfig) -> None:
        """Draw all weights from torch's generator."""
        super().__init__(config)
        self.transformer = T5EncoderModel(config)
        self.dropout = nn.Dropout(config.dropout_rate)
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.classifier = nn.Linear(config.d_model, config.num_labels)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of the tokens."""
        return self.transformer.get_input_embeddings()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:
        """Logits float [B, C]. Args: int64 [B, T]; an end mark separates text and target."""
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # [B, T, H]
        mask = attention_mask.to(hidden.dtype)
        mean = torch.bmm(mask.unsqueeze(1), hidden).squeeze(1) / mask.sum(dim=1, keepdim=True).clamp_min(1)  # [B, H]
        pooled = torch.tanh(self.dense(self.dropout(mean)))
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(pooled)))
