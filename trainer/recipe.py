"""What the families of students need that differs: how fast they learn, for how long, and how much of a text they read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from potstill.contract.errors import UserError

N_FEW = 400  # texts


@dataclass(frozen=True)
class Recipe:
    """A family's own settings."""

    rate: float  # highest learning rate of the body, for thousands of texts; an encoder is fine-tuned, the others learn most
    head_rate: float  # of what starts from nothing: the head, and a pooler under it
    min_steps: int
    min_epochs: int
    max_epochs: int
    part_cost: (
        float  # tokens (bytes for bytes) that a pass over a part of a batch costs beside its own; see `trainer/training/parts.py`
    )
    ids_per_token: int = 1  # times max_tokens: a byte is no token, an English token has about four
    freezes_embeddings: bool = False
    rate_for_few: float | None = None  # the body's with N_FEW texts or fewer; None: the same

    def rate_for(self, n_texts: int) -> float:
        """The body's highest learning rate: it falls with the root of the number of texts, from that for few to that for many.

        The more steps, the less each has to move; and a fast body learns by heart how its teacher errs (docs/log.md).
        """
        few = self.rate_for_few or self.rate
        return max(self.rate, few * min(1.0, math.sqrt(N_FEW / n_texts)))


RECIPES = {
    "encoder": Recipe(
        rate=5e-5,
        rate_for_few=1e-4,
        head_rate=2e-3,
        min_steps=120,
        min_epochs=2,
        max_epochs=8,
        part_cost=32,
        freezes_embeddings=True,
    ),
    "static": Recipe(rate=2e-3, head_rate=1e-2, min_steps=600, min_epochs=6, max_epochs=30, part_cost=math.inf),
    "charformer": Recipe(rate=5e-4, head_rate=2.5e-3, min_steps=600, min_epochs=6, max_epochs=30, part_cost=128, ids_per_token=4),
}


def find_recipe(family: str) -> Recipe:
    """The family's recipe; raises UserError listing the families."""
    if family not in RECIPES:
        raise UserError(f"family is {family!r}; allowed: {', '.join(RECIPES)}")
    return RECIPES[family]
