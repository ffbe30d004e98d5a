"""The encoder that embeds texts for the labeler, or the reason why there is none; imports no torch and no engine."""

from __future__ import annotations

from importlib.util import find_spec

from potstill.contract.errors import MissingExtraError, UserError
from potstill.models.catalog import ModelFolder, find_backbone

EMBEDDING_LIBRARIES = ("torch", "transformers", "safetensors")  # imported by labeler/embeddings.py


def check_embedding_libraries() -> None:
    """Raise ModuleNotFoundError if a library that embeddings need is not installed; imports none of them."""
    for name in EMBEDDING_LIBRARIES:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def encoder_at_hand(backbone: str) -> tuple[ModelFolder | None, str]:
    """The backbone's folder and an empty line; or None and the line that says what is missing and how to get it."""
    try:
        check_embedding_libraries()
        return find_backbone(backbone), ""
    except ModuleNotFoundError as error:
        return None, str(MissingExtraError(error.name or "torch", "train"))
    except UserError as error:
        return None, str(error)
