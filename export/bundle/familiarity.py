"""Learn which tokens the pool has, so that a bundle tells a text unlike it: scores from training texts, the threshold from others.

A token's score is the log of its share in texts in general over its share in the pool. A pool of some hundred texts lacks most
words that it could have, so half of a token's share here is that in general. Vocabularies list their tokens by frequency, roughly,
and word frequencies fall as one over the rank (Zipf's law); so the share in general needs no corpus.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from tokenizers import Tokenizer

from potstill.contract.bundle import TOKENIZER_FILE
from potstill.contract.familiarity import (
    FORMAT,
    Familiarity,
    familiarity_score,
    fewest_held_out,
    rank_of_threshold,
)
from potstill.export.gate.source import ExportSource
from potstill.serve.runtime.tokenizer import Feeds

OWN_SHARE = 0.5  # of a token's share in the pool that is counted there; chosen in benchmarks/promises/unfamiliar.py
FLAT_RANKS = 100  # ids at the beginning of a vocabulary are hardly sorted, so their shares are nearly equal
DIGITS = 4  # decimals of a score


def fit_familiarity(source: ExportSource, rate: float) -> Familiarity | None:
    """Scores of tokens, and the threshold above which a text is called unfamiliar; None if too few texts are held out.

    Tokens are counted in the calibration set and the training texts of the gate. The threshold is chosen on the validation texts,
    which the student was not trained on.

    Args:
        source: the checkpoint's content; its vocabulary is the one that is shipped.
        rate: largest share of the validation texts' like that is called unfamiliar, on average; above 0 and below 1.
    """
    on = source.gate
    held_out = [_tokens(feeds) for feeds in on.feeds[: on.n_validation]]
    counted = [_tokens(feeds) for feeds in [*source.calibration, *on.feeds[on.n_validation :]]]
    if len(held_out) < fewest_held_out(rate):
        return None
    n_tokens = Tokenizer.from_file(str(source.checkpoint / TOKENIZER_FILE)).get_vocab_size()
    frame = _tokens(source.tokenize.ids("", "" if source.student.target else None))  # of every text, so they tell nothing
    scores = {**_scores(counted, n_tokens), **dict.fromkeys(frame, 0.0)}
    unseen = round(-math.log(1 - OWN_SHARE), DIGITS)
    found = sorted(familiarity_score(scores, unseen, tokens) for tokens in held_out)
    return Familiarity(
        format=FORMAT,
        rate=rate,
        threshold=found[rank_of_threshold(len(found), rate) - 1],
        n=len(held_out),
        n_counted=len(counted),
        tokens=sorted(scores),
        scores=[scores[token] for token in sorted(scores)],
        unseen=unseen,
    )


def _tokens(feeds: Feeds) -> list[int]:
    """The ids of one text."""
    ids: list[int] = feeds["input_ids"][0].tolist()
    return ids


def _scores(texts: Sequence[list[int]], n_tokens: int) -> dict[int, float]:
    """The scores of the tokens in these texts, by id. Args: n_tokens, of the vocabulary."""
    counts = Counter(token for tokens in texts for token in tokens)
    total = sum(counts.values())
    scale = 1 / math.fsum(1 / (rank + FLAT_RANKS) for rank in range(n_tokens))
    scores = {}
    for token, n in counts.items():
        general = scale / (token + FLAT_RANKS)
        scores[token] = round(math.log(general / (OWN_SHARE * n / total + (1 - OWN_SHARE) * general)), DIGITS)
    return scores
