"""Nearest prototypes as a source: a text gets the label whose examples it resembles most, if it resembles them clearly more.

Axes: N texts, E examples, C labels, H width of the embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.texts import Text
from potstill.labeler.weak_supervision.votes import SourceVotes

SHARE = 0.5  # of the texts it votes on: those that are nearest to one label's prototype, and clearly not to another's


def prototype_votes(
    name: str, texts: Sequence[Text], examples: Sequence[Text], labels: Sequence[str], vectors: NDArray[np.float32]
) -> SourceVotes:
    """The votes of the nearest prototype: the mean of the embeddings of a label's examples, scaled to length 1.

    Args:
        name: of the source.
        texts: [N].
        examples: [E], each with its label as gold; a text that is an example itself was not asked about.
        labels: [C], in the task's order.
        vectors: float [N + E, H], rows of length 1: embeddings of the texts, then of the examples.
    Raises:
        UserError: if a label has no example.
    """
    of_texts, of_examples = vectors[: len(texts)], vectors[len(texts) :]
    gold = np.array([labels.index(example.gold or "") for example in examples])
    for label, name_of_label in enumerate(labels):
        if not (gold == label).any():
            raise UserError(f"prototypes need examples of every label, and {name_of_label!r} has none; add one to the task")
    means = np.stack([of_examples[gold == label].mean(axis=0) for label in range(len(labels))])
    near = of_texts @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T  # [N, C], cosines
    near = near - near.mean(axis=0)  # a prototype in the middle of all texts is near to each of them
    ranked = np.sort(near, axis=1)
    known = {(example.text, example.target) for example in examples}
    asked = np.array([(text.text, text.target) not in known for text in texts])
    margins = ranked[:, -1] - ranked[:, -2]
    sure = asked & (margins >= np.quantile(margins, 1 - SHARE))
    probs = np.eye(len(labels))[near.argmax(axis=1)] * sure[:, None]
    return SourceVotes(name, "prototypes", probs, asked)
