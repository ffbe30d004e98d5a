"""What the families of students need that differs: how fast they learn, for how long, and how much of a text they read."""

from __future__ import annotations

from dataclasses import dataclass

from contract.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """A family's own factors, over the settings of an encoder."""

    rate: float  # times the learning rate; an encoder is fine-tuned, the others learn most of what they know
    min_steps: int
    min_epochs: int
    max_epochs: int
    ids_per_token: int = 1  # times max_tokens: a byte is no token, an English token has about four
    freezes_embeddings: bool = False


RECIPES = {
    "encoder": Recipe(rate=1, min_steps=120, min_epochs=3, max_epochs=8, freezes_embeddings=True),
    "static": Recipe(rate=10, min_steps=600, min_epochs=6, max_epochs=30),
    "charformer": Recipe(rate=2.5, min_steps=600, min_epochs=6, max_epochs=30, ids_per_token=4),
}


def find_recipe(family: str) -> Recipe:
    """The family's recipe; raises UserError listing the families."""
    if family not in RECIPES:
        raise UserError(f"family is {family!r}; allowed: {', '.join(RECIPES)}")
    return RECIPES[family]
