"""Tasks with many labels: the candidates that the teacher is asked among, found for each text without gold.

A label is what its words, its meaning and its worked examples say: the mean of their embeddings. A text's candidates are the labels
most similar to it. How similar gives a distribution over all labels: what is believed of a text before the teacher is asked. So a
label that is not a candidate keeps a stated probability, and never zero.

Axes: N texts, C labels, H width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from potstill.contract.task import Example, Label, Task
from potstill.contract.texts import Text
from potstill.labeler.candidates import Candidates, as_shown
from potstill.models.catalog import ModelFolder

# Similarity (cosine) that makes a label e times as probable: with it the stated probability of what is no candidate was the share
# of texts whose label was none (docs/results.md).
TEMPERATURE = 0.05
COVERED = 0.98  # a text has fewer candidates where they have that probability together: reading them is what a path costs
_LEAST = 2
_DIGITS = 4  # of a log-probability in the store: 0.01 %


@dataclass(frozen=True)
class Narrowing:
    """What similarity chose for each text, by text id."""

    candidates: dict[str, Candidates]
    examples: dict[str, tuple[Example, ...]]  # of each candidate the most similar worked example, that of the likeliest last


def narrowed(task: Task, texts: Sequence[Text], n_candidates: int, backbone: ModelFolder) -> Narrowing:
    """Find the candidates of each text. They depend on the text, the task and the encoder alone, not on other texts.

    Args:
        n_candidates: from 1 to the number of labels.
        backbone: the encoder whose embeddings measure similarity.
    Raises:
        FormatError: if the backbone cannot be read.
        ModuleNotFoundError: if torch or transformers is not installed.
    """
    from potstill.labeler.embeddings import embeddings  # torch is loaded only here

    said = [_said(label) for label in as_shown(task).labels]
    about = [Text(words) for own in said for words in own]
    examples = [Text(example.text, target=example.target) for example in task.examples]
    vectors = embeddings([*texts, *about, *examples], backbone.path)
    index = {name: place for place, name in enumerate(task.label_names)}
    shown_by = [index[example.label] for example in task.examples]
    owners = [place for place, own in enumerate(said) for _ in own] + shown_by
    sums = np.zeros((len(task.labels), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, owners, vectors[len(texts) :])
    labels = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    found = chosen(texts, vectors[: len(texts)] @ labels.T, n_candidates)
    similar = vectors[: len(texts)] @ vectors[len(texts) + len(about) :].T  # [N, E]
    return Narrowing(found, _examples_of(task, texts, found, similar, shown_by))


def chosen(texts: Sequence[Text], similarities: NDArray[np.float32], n_candidates: int) -> dict[str, Candidates]:
    """The candidates that follow from similarities, by text id; of two equally similar labels the earlier one wins.

    Args:
        similarities: float [N, C], cosines.
        n_candidates: the most; a text has those that it takes to have COVERED of the probability, two at least.
    """
    log_prior = np.round(log_softmax(similarities.astype(np.float64) / TEMPERATURE, axis=1), _DIGITS)  # [N, C]
    order = np.argsort(-log_prior, axis=1, kind="stable")[:, :n_candidates]
    covered = np.cumsum(np.exp(np.take_along_axis(log_prior, order, axis=1)), axis=1)
    n_each = np.clip((covered < COVERED).sum(axis=1) + 1, _LEAST, n_candidates)
    return {
        text.id: Candidates(tuple(own[:n]), tuple(prior))
        for text, own, n, prior in zip(texts, order.tolist(), n_each.tolist(), log_prior.tolist(), strict=True)
    }


def _said(label: Label) -> list[str]:
    """What stands for a label beside its worked examples: its words and its meaning."""
    return [*label.words, *([label.meaning] if label.meaning.strip() else [])]


def _examples_of(
    task: Task,
    texts: Sequence[Text],
    found: Mapping[str, Candidates],
    similar: NDArray[np.float32],
    shown_by: Sequence[int],
) -> dict[str, tuple[Example, ...]]:
    """One worked example of each candidate; where it has none, its meaning or its words stand for one.

    Args:
        similar: float [N, E], of every text to every worked example.
        shown_by: label index of each worked example.
    """
    by_label = [[i for i, owner in enumerate(shown_by) if owner == place] for place in range(len(task.labels))]
    stand_ins = [
        Example(text=label.meaning.strip() or label.words[0], label=label.name, target="" if task.input.target else None)
        for label in as_shown(task).labels
    ]
    chosen_for: dict[str, tuple[Example, ...]] = {}
    for text, row in zip(texts, similar.tolist(), strict=True):
        best = []
        for place in reversed(found[text.id].labels):
            own = by_label[place]
            best.append(task.examples[max(own, key=lambda i: (row[i], -i))] if own else stand_ins[place])
        chosen_for[text.id] = tuple(best)
    return chosen_for
