"""Whether the float graph answers like the checkpoint does in torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from potstill.contract.errors import UserError
from potstill.export.graph import quiet, torch_threads
from potstill.serve.runtime.classifier import softmax
from potstill.serve.runtime.tokenizer import Feeds

PARITY_TEXTS = 128  # an export is wrong on all texts or on none, so torch need not answer more
PARITY = 1e-3  # largest accepted difference of a probability


def torch_logits(checkpoint: Path, feeds: Sequence[Feeds]) -> NDArray[np.float32]:
    """The checkpoint's own answers, float32 [N, C]."""
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, local_files_only=True, dtype=torch.float32).eval()
    with torch_threads(1), torch.inference_mode():
        rows = [model(**{name: torch.from_numpy(value) for name, value in feed.items()}).logits.numpy() for feed in feeds]
    return np.concatenate(rows)


def check_parity(checkpoint: Path, feeds: Sequence[Feeds], found: NDArray[np.float32]) -> float:
    """The largest difference of a probability between torch and the float graph, on the first texts.

    Raises:
        UserError: if it is not small.
    """
    expected = torch_logits(checkpoint, feeds[:PARITY_TEXTS])
    change = float(np.abs(softmax(expected, 1.0) - softmax(found[:PARITY_TEXTS], 1.0)).max())
    if not change <= PARITY:  # this way round, NaN is refused too
        raise UserError(
            f"{checkpoint}: its float graph differs from torch by {change:.3g} in a probability; at most {PARITY:g} is right"
        )
    return change
