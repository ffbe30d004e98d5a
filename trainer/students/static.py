"""A new static student: an encoder's tokens, their vectors and weights, under an untrained head.

Axes: V tokens of the vocabulary, H width of the encoder, D numbers of a vector.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from potstill.networks.static import StaticConfig, StaticForSequenceClassification
from potstill.trainer.students import tokenizer as tokens
from potstill.trainer.students.encoder import BATCH_SIZE, Encoder, answer_with
from potstill.trainer.students.tokenizer import EncodedText

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
N_NUMBERS = 256  # of a token's vector, or the encoder's width if that is less
ALONE = 4.0  # occurrences that the token by itself counts as, next to those in texts
MAX_CONTEXTS = 4096  # texts read for contexts; more change no mean that matters
RARE = 1e-3  # share of all tokens above which a token's weight falls; `a` in the source of log_weights

_Floats = NDArray[np.float64]


def from_encoder(encoder: Encoder, texts: Sequence[tuple[str, str | None]], labels: list[str], *, pair: bool) -> Encoder:
    """Build a static student from an encoder's outputs at single tokens.

    Args:
        encoder: a backbone, or a trained student.
        texts: (text, target) of the task; they give contexts, token frequencies, and the tokens to keep.
        labels: in output order.
        pair: whether text and target are read as a pair.
    """
    features = encoder.encode(texts)
    counts = token_counts(features)
    tokenizer, ids = prune_tokenizer(encoder.tokenizer, counts)
    tokenizer = tokens.truncate_at(tokenizer, encoder.tokenizer.model_max_length)
    n = min(N_NUMBERS, encoder.model.config.hidden_size)
    config = StaticConfig(vocab_size=len(ids), hidden_size=n, pair=pair, pad_token_id=tokenizer.pad_token_id)
    answer_with(config, labels)
    model = StaticForSequenceClassification(config)
    with torch.no_grad():
        model.bag.vectors.weight.copy_(torch.from_numpy(principal_components(token_vectors(encoder, ids, features), n)))
        model.bag.log_weights.weight.copy_(torch.from_numpy(log_weights([counts[i] for i in ids])).unsqueeze(1))
    return Encoder(model, tokenizer)


def prune_tokenizer(tokenizer: PreTrainedTokenizerFast, used: Collection[int]) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """(a tokenizer with only the used tokens and the single-character pieces, the old id of each new one).

    A tokenizer that is not WordPiece comes back whole: the merges of others depend on one another.

    Args:
        tokenizer: left as it was.
        used: ids that occur in the texts.
    """
    layout: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    whole = list(range(max(tokenizer.get_vocab().values()) + 1))
    if layout["model"]["type"] != "WordPiece":
        return tokenizer, whole
    prefix = layout["model"]["continuing_subword_prefix"]
    vocabulary: dict[str, int] = layout["model"]["vocab"]
    special = {token["id"] for token in layout["added_tokens"]} | {vocabulary[layout["model"]["unk_token"]]}
    asked = special | set(used)
    kept = sorted((i, token) for token, i in vocabulary.items() if i in asked or len(token.removeprefix(prefix)) == 1)
    new = {old: i for i, (old, _) in enumerate(kept)}
    if not special <= new.keys():  # added beside the vocabulary: their ids follow it, and would have to move
        return tokenizer, whole
    layout["model"]["vocab"] = {token: new[old] for old, token in kept}
    for token in layout["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber(layout.get("post_processor"), new)
    special_tokens = {name: getattr(tokenizer, name) for name in SPECIAL_TOKENS if getattr(tokenizer, name) is not None}
    small = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(layout)), model_max_length=tokenizer.model_max_length, **special_tokens
    )
    return small, [old for old, _ in kept]


def _renumber(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    """Put the new ids into the post-processor, which adds the special tokens, in place."""
    parts = [processor, *(processor.get("processors") or [])] if processor else []  # it may be a sequence of others
    for part in parts:
        for mark in ("sep", "cls"):
            if mark in part:
                part[mark] = [part[mark][0], new[part[mark][1]]]
        for token in (part.get("special_tokens") or {}).values():
            token["ids"] = [new[i] for i in token["ids"]]


def token_counts(features: Sequence[EncodedText]) -> Counter[int]:
    """Count the occurrences of each id."""
    return Counter(i for feature in features for i in feature["input_ids"])


def log_weights(counts: Sequence[int]) -> _Floats:
    """float64 [V]: log(a / (a + p)) for tokens of probability p.

    Source: Arora, Liang, Ma 2017, A simple but tough-to-beat baseline for sentence embeddings (SIF), section 3.
    """
    smooth = np.asarray(counts, dtype=np.float64) + 1
    return np.asarray(np.log(RARE / (RARE + smooth / smooth.sum())))


def token_vectors(encoder: Encoder, ids: Sequence[int], features: Sequence[EncodedText]) -> _Floats:
    """float64 [V, H]: the mean of the encoder's outputs at each token, alone and in up to `MAX_CONTEXTS` texts.

    Args:
        encoder: its last hidden states are read.
        ids: the V tokens.
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


def principal_components(vectors: _Floats, n: int) -> _Floats:
    """float64 [V, D]: the first n principal components, scaled to a mean square length of 1. Args: vectors float [V, H]."""
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    kept = centred @ directions[:, ::-1][:, :n]
    return np.asarray(kept / max(float(np.sqrt(np.square(kept).sum(axis=1).mean())), 1e-12))


def _add(
    encoder: Encoder, features: Sequence[EncodedText], place: dict[int, int], sums: _Floats, counts: _Floats, *, weight: float
) -> None:
    """Add the texts' outputs to the sums of their tokens, in place."""
    body = encoder.model.base_model.eval()
    order = sorted(range(len(features)), key=lambda i: len(features[i]["input_ids"]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH_SIZE):
            chosen = [features[i] for i in order[start : start + BATCH_SIZE]]
            batch = {name: tensor.to(encoder.model.device) for name, tensor in tokens.pad(chosen, encoder.pad_id).items()}
            hidden = body(**batch)[0].cpu().numpy()  # [B, T, H]
            for row, feature in zip(hidden, chosen, strict=True):
                known = [(i, place[token]) for i, token in enumerate(feature["input_ids"]) if token in place]
                rows = [i for _, i in known]
                np.add.at(sums, rows, weight * row[[i for i, _ in known]])
                np.add.at(counts, rows, weight)
