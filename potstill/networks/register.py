"""Making the students' own networks known to `transformers`, so that its Auto classes open every checkpoint alike."""

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
    """Enter the networks into the Auto classes; a second call changes nothing."""
    for config, network in NETWORKS.items():
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForSequenceClassification.register(config, network, exist_ok=True)


def family_of(model_type: str) -> str:
    """The family of a `config.json` with this `model_type`: whatever is not said otherwise is an encoder."""
    return FAMILIES.get(model_type, "encoder")


def is_own(model_type: str) -> bool:
    """Whether the network is one of these, which only this project can export."""
    return model_type in {config.model_type for config in NETWORKS}


def as_student(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration of the classifier that is made of a folder: of a whole T5 its encoder, of all others as it is."""
    return T5EncoderConfig.of(config) if config.model_type in T5_KINDS else config
