"""What tuning tries, and on how many texts. Importing this file loads no numpy."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.contract.errors import UserError
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.config import EXAMPLES, TEMPLATES, LabelConfig

MOST = 300  # more texts bring little


@dataclass(frozen=True)
class TuneConfig:
    """What tuning tries."""

    examples: tuple[str, ...] = EXAMPLES
    templates: tuple[str, ...] = TEMPLATES
    cot: bool = True  # whether answers with a rationale are tried too
    rewrites: int = 0  # guidelines that the teacher writes, each to be tried as a wording
    n_examples_per_label: int = LabelConfig.n_examples_per_label
    seed: int = LabelConfig.seed
    backbone: str = DeriveConfig.backbone  # the encoder for nearest examples and smoothing

    def __post_init__(self) -> None:
        """Check the number of rewrites; raises UserError."""
        if self.rewrites < 0:
            raise UserError(f"rewrites is {self.rewrites}; it must be at least 0")
