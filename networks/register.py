"""Making the students' own networks known to `transformers`, so that its Auto classes open every checkpoint alike."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForSequenceClassification

from networks.charformer import CharformerConfig, CharformerForSequenceClassification
from networks.static import StaticConfig, StaticForSequenceClassification

FAMILIES = {StaticConfig.model_type: "static", CharformerConfig.model_type: "charformer"}


def register() -> None:
    """Enter the networks into the Auto classes; a second call changes nothing."""
    for config, network in (
        (StaticConfig, StaticForSequenceClassification),
        (CharformerConfig, CharformerForSequenceClassification),
    ):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForSequenceClassification.register(config, network, exist_ok=True)


def family_of(model_type: str) -> str:
    """The family of a `config.json` with this `model_type`: whatever is not ours is an encoder."""
    return FAMILIES.get(model_type, "encoder")
