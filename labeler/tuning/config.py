"""What tuning tries, and on how many texts. Importing this file loads no numpy."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.config import EXAMPLES, TEMPLATES, LabelConfig

MOST = 300  # more texts bring little


@dataclass(frozen=True)
class TuneConfig:
    """What tuning tries."""

    examples: tuple[str, ...] = EXAMPLES
    templates: tuple[str, ...] = TEMPLATES
    cot: bool = True  # whether answers with a rationale are tried too
    n_examples_per_label: int = LabelConfig.n_examples_per_label
    seed: int = LabelConfig.seed
    backbone: str = DeriveConfig.backbone  # the encoder for nearest examples and smoothing
