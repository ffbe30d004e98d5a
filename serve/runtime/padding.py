"""Texts side by side in one batch, as other runtimes have them. This one pads nothing; it is here for what measures batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from potstill.serve.runtime.tokenizer import Feeds


def padded(feeds: Sequence[Feeds], pad_id: int, n_tokens: int) -> Feeds:
    """One batch of texts, int64 [B, n_tokens], at least as long as the longest of them; the padding is masked."""
    fill = {"input_ids": pad_id, "attention_mask": 0, "token_type_ids": 0}
    return {
        name: np.concatenate(
            [np.pad(feed[name], ((0, 0), (0, n_tokens - feed[name].shape[1])), constant_values=fill[name]) for feed in feeds]
        )
        for name in feeds[0]
    }
