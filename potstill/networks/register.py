"""Register the students' own networks with `transformers`, so that its Auto classes open every checkpoint.

A new network is an entry of `NETWORKS`; one that is a family of its own has an entry of `FAMILIES`, too.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from potstill.networks.charformer import CharformerConfig, CharformerForSequenceClassification
from potstill.networks.static import StaticConfig, StaticForSequenceClassification
from potstill.networks.t5 import T5_KINDS, T5EncoderConfig, T5EncoderForSequenceClassification

NETWORKS: dict[type[PretrainedConfig], type[PreTrainedModel]] = {
    StaticConfig: StaticForSequenceClassification,
    CharformerConfig: CharformerForSequenceClassification,
    T5EncoderConfig: T5EncoderForSequenceClassification,
}
FAMILIES = {StaticConfig.model_type: "static", CharformerConfig.model_type: "charformer"}


def register() -> None:
    """Register the networks with the Auto classes; a second call changes nothing."""
    for config, network in NETWORKS.items():
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForSequenceClassification.register(config, network, exist_ok=True)


def family_of(model_type: str) -> str:
    """The family of a model type; types that are not listed are encoders. Args: model_type, from `config.json`."""
    return FAMILIES.get(model_type, "encoder")


def is_own(model_type: str) -> bool:
    """Whether the model type is one of these networks, which only this project can export."""
    return model_type in {config.model_type for config in NETWORKS}


def as_student(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration of the student that a model becomes: for a T5 that of its encoder, for others the same."""
    return T5EncoderConfig.of(config) if config.model_type in T5_KINDS else config
