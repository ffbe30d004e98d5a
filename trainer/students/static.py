"""A new static student: an encoder's tokens, their vectors and weights, under a head that is still to be trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from potstill.networks.static import StaticConfig, StaticForSequenceClassification
from potstill.trainer.students import tokenizer as tokens
from potstill.trainer.students.encoder import Encoder
from potstill.trainer.students.token_vectors import log_weights, principal, token_counts, token_vectors
from potstill.trainer.students.vocabulary import pruned

N_NUMBERS = 256  # of a token's vector, or the encoder's width if that is less


def from_encoder(encoder: Encoder, texts: Sequence[tuple[str, str | None]], labels: list[str], *, pair: bool) -> Encoder:
    """A static student that knows what the encoder knows of single tokens.

    Args:
        encoder: a backbone, or a trained student.
        texts: (text, target) of the task, for contexts, frequencies, and which tokens are needed at all.
        labels: in output order.
        pair: whether text and target are read as a pair.
    """
    features = encoder.encode(texts)
    counts = token_counts(features)
    tokenizer, ids = pruned(encoder.tokenizer, counts)
    max_tokens = encoder.tokenizer.model_max_length
    tokenizer = tokens.cut_at(tokenizer, max_tokens)
    n = min(N_NUMBERS, encoder.model.config.hidden_size)
    config = StaticConfig(
        vocab_size=len(ids),
        hidden_size=n,
        pair=pair,
        pad_token_id=tokenizer.pad_token_id,
        problem_type="single_label_classification",
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
    )
    model = StaticForSequenceClassification(config)
    with torch.no_grad():
        model.bag.vectors.weight.copy_(torch.from_numpy(principal(token_vectors(encoder, ids, features), n)))
        model.bag.log_weights.weight.copy_(torch.from_numpy(log_weights([counts[i] for i in ids])).unsqueeze(1))
    return Encoder(model, tokenizer)
