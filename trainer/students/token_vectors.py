"""A vector for every token, from an encoder: what it makes of the token alone and among others, in fewer numbers.

Axes: V tokens, T tokens of a text, H width of the encoder, D numbers that are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.trainer.students import tokenizer
from potstill.trainer.students.encoder import BATCH_SIZE, Encoder
from potstill.trainer.students.tokenizer import Feature

Floats = NDArray[np.float64]

ALONE = 4.0  # occurrences that the token by itself counts as, against those in texts
MAX_CONTEXTS = 4096  # texts read for contexts; more change no mean that matters
RARE = 1e-3  # share of all tokens above which a token's weight falls; the source's a


def token_counts(features: Sequence[Feature]) -> Counter[int]:
    """How often each id occurs."""
    return Counter(i for feature in features for i in feature["input_ids"])


def log_weights(counts: Sequence[int]) -> Floats:
    """log(a / (a + p)) for tokens of probability p, float [V].

    Source: Arora, Liang, Ma 2017, A simple but tough-to-beat baseline for sentence embeddings (SIF), section 3.
    """
    smooth = np.asarray(counts, dtype=np.float64) + 1
    return np.asarray(np.log(RARE / (RARE + smooth / smooth.sum())))


def token_vectors(encoder: Encoder, ids: Sequence[int], features: Sequence[Feature]) -> Floats:
    """The mean of the encoder's outputs at each token, float [V, H]: alone, and in up to `MAX_CONTEXTS` texts.

    Args:
        encoder: its last layer is read.
        ids: the tokens.
        features: texts of the task.
    """
    place = {token: row for row, token in enumerate(ids)}
    sums, counts = np.zeros((len(ids), encoder.model.config.hidden_size)), np.zeros(len(ids))
    step = max(1, len(features) // MAX_CONTEXTS)
    _add(encoder, features[::step], place, sums, counts, weight=1.0)
    marks = [encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id]
    before, after = ([] if mark is None else [mark] for mark in marks)
    single = [[*before, token, *after] for token in ids if token not in marks]
    own = [{name: [int(name == "attention_mask")] * len(row) for name in (features[0] if features else {})} for row in single]
    for feature, row in zip(own, single, strict=True):
        feature["input_ids"] = row
    _add(encoder, own, place, sums, counts, weight=ALONE)
    return np.asarray(sums / np.maximum(counts, 1)[:, None])


def principal(vectors: Floats, n: int) -> Floats:
    """The vectors around their mean, turned to their n widest directions, scaled to a mean square length of 1; float [V, D]."""
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    kept = centred @ directions[:, ::-1][:, :n]
    return np.asarray(kept / max(float(np.sqrt(np.square(kept).sum(axis=1).mean())), 1e-12))


def _add(
    encoder: Encoder, features: Sequence[Feature], place: dict[int, int], sums: Floats, counts: Floats, *, weight: float
) -> None:
    """Add the outputs of the texts to the sums of their tokens."""
    body = encoder.model.base_model.eval()
    order = sorted(range(len(features)), key=lambda i: len(features[i]["input_ids"]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH_SIZE):
            chosen = [features[i] for i in order[start : start + BATCH_SIZE]]
            batch = {name: tensor.to(encoder.model.device) for name, tensor in tokenizer.pad(chosen, encoder.pad_id).items()}
            hidden = body(**batch)[0].cpu().numpy()  # [B, T, H]
            for row, feature in zip(hidden, chosen, strict=True):
                known = [(i, place[token]) for i, token in enumerate(feature["input_ids"]) if token in place]
                rows = [i for _, i in known]
                np.add.at(sums, rows, weight * row[[i for i, _ in known]])
                np.add.at(counts, rows, weight)
