"""The texts that activation ranges come from, in buckets of one length.

A bucket runs as one batch without padding: padding would be seen by the quantizer, and no caller pads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from potstill.serve.runtime.tokenizer import Feeds

N_TEXTS = 256  # more do not move activation ranges
BUCKET = 16  # texts side by side at most
_Item = TypeVar("_Item")


def batch_by_length(feeds: Sequence[Feeds]) -> list[Feeds]:
    """The texts as batches of one length each, int64 [B, T], the shortest first.

    Args:
        feeds: each one text, int64 [1, T] by input name.
    """
    batches: list[list[Feeds]] = []
    for feed in sorted(feeds, key=n_tokens):
        last = batches[-1] if batches else []
        if last and len(last) < BUCKET and n_tokens(last[0]) == n_tokens(feed):
            last.append(feed)
        else:
            batches.append([feed])
    return [{name: np.concatenate([feed[name] for feed in batch]) for name in batch[0]} for batch in batches]


def spread_by_length(items: Sequence[_Item], lengths: Sequence[int], n: int) -> tuple[list[_Item], list[_Item]]:
    """At most ``n`` of the items, at equal steps from the shortest to the longest, and those that are left; in the given order.

    Args:
        items: N texts, in whatever form.
        lengths: N, in tokens.
        n: at least 0.
    """
    order = sorted(range(len(items)), key=lambda i: lengths[i])
    n = min(n, len(items))
    taken = {order[i * len(items) // n] for i in range(n)}
    return [item for i, item in enumerate(items) if i in taken], [item for i, item in enumerate(items) if i not in taken]


def n_tokens(feed: Feeds) -> int:
    """Tokens of one text."""
    return int(feed["input_ids"].shape[1])
