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
    groups: tuple[tuple[int, ...], ...] = ()  # of similar labels, for the teacher's first look; examples are then of all labels


def narrowed(task: Task, texts: Sequence[Text], n_candidates: int, backbone: ModelFolder, n_group: int = 0) -> Narrowing:
    """Find the candidates of each text. They depend on the text, the task and the encoder alone, not on other texts.

    Args:
        n_candidates: from 1 to the number of labels.
        backbone: the encoder whose embeddings measure similarity.
        n_group: labels in a group of the teacher's first look at most; 0: there is none.
    Raises:
        FormatError: if the backbone cannot be read.
        ModuleNotFoundError: if torch or transformers is not installed.
    """
    from potstill.labeler.embeddings import embeddings  # torch is loaded only here

    said = [_said(label) for label in as_shown(task).labels]
    about = [Text(words) for own in said for words in own]
    examples = [Text(example.text, target=example.target) for example in task.examples]
    vectors = embeddings([*texts, *about, *examples], backbone.path)
    shown_by = _shown_by(task)
    owners = [place for place, own in enumerate(said) for _ in own] + shown_by
    sums = np.zeros((len(task.labels), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, owners, vectors[len(texts) :])
    labels = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    found = chosen(texts, (vectors[: len(texts)] @ labels.T).astype(np.float64) / TEMPERATURE, n_candidates)
    similar = vectors[: len(texts)] @ vectors[len(texts) + len(about) :].T  # [N, E]
    if not n_group:
        return Narrowing(found, _examples_of(task, texts, {name: own.labels for name, own in found.items()}, similar, shown_by))
    every = dict.fromkeys(found, tuple(range(len(task.labels))))  # which of them become candidates shows later
    return Narrowing(found, _examples_of(task, texts, every, similar, shown_by), label_groups(labels @ labels.T, n_group))


def not_narrowed(task: Task, texts: Sequence[Text], n_candidates: int, n_group: int) -> Narrowing:
    """The same without an encoder: nothing is believed of any label, and groups follow from the words that labels share.

    Args: as for :func:`narrowed`; n_group at least 2.
    """
    found = chosen(texts, np.zeros((len(texts), len(task.labels))), n_candidates)
    said = [set(" ".join(_said(label)).lower().split()) for label in as_shown(task).labels]
    words = sorted(set().union(*said))
    rows = np.array([[word in own for word in words] for own in said], dtype=np.float32)  # [C, words]
    rows /= np.sqrt(np.maximum(rows.sum(axis=0), 1))  # a word of many labels says less
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    every = dict.fromkeys(found, tuple(range(len(task.labels))))
    unknown = np.zeros((len(texts), len(task.examples)), dtype=np.float32)
    return Narrowing(found, _examples_of(task, texts, every, unknown, _shown_by(task)), label_groups(rows @ rows.T, n_group))


def label_groups(similar: NDArray[np.float32], n_most: int) -> tuple[tuple[int, ...], ...]:
    """The labels in groups of like size, each the most similar ones that are left to the first one that is left.

    Args:
        similar: float [C, C].
        n_most: labels in a group, at least 2.
    """
    left = list(range(len(similar)))
    n_groups = -(-len(left) // n_most)
    found = []
    for number in range(n_groups):
        size = -(-len(left) // (n_groups - number))
        first = left[0]
        own = sorted(left, key=lambda label: (label != first, -float(similar[first, label]), label))[:size]
        found.append(tuple(sorted(own)))
        left = [label for label in left if label not in own]
    return tuple(found)


def chosen(texts: Sequence[Text], believed: NDArray[np.float64], n_candidates: int) -> dict[str, Candidates]:
    """The candidates that follow from what is believed, by text id; of two equally likely labels the earlier one wins.

    Args:
        believed: float [N, C], log-probability of each label in nats, up to a constant in each row.
        n_candidates: the most; a text has those that it takes to have COVERED of the probability, two at least.
    """
    log_prior = np.round(log_softmax(believed, axis=1), _DIGITS)  # [N, C]
    order = np.argsort(-log_prior, axis=1, kind="stable")[:, :n_candidates]
    covered = np.cumsum(np.exp(np.take_along_axis(log_prior, order, axis=1)), axis=1)
    n_each = np.clip((covered < COVERED).sum(axis=1) + 1, _LEAST, n_candidates)
    return {
        text.id: Candidates(tuple(own[:n]), tuple(prior))
        for text, own, n, prior in zip(texts, order.tolist(), n_each.tolist(), log_prior.tolist(), strict=True)
    }


def _shown_by(task: Task) -> list[int]:
    """The label index of each worked example."""
    index = {name: place for place, name in enumerate(task.label_names)}
    return [index[example.label] for example in task.examples]


def _said(label: Label) -> list[str]:
    """What stands for a label beside its worked examples: its words and its meaning."""
    return [*label.words, *([label.meaning] if label.meaning.strip() else [])]


def _examples_of(
    task: Task,
    texts: Sequence[Text],
    found: Mapping[str, tuple[int, ...]],
    similar: NDArray[np.float32],
    shown_by: Sequence[int],
) -> dict[str, tuple[Example, ...]]:
    """One worked example of each label found for a text; where it has none, its meaning or its words stand for one.

    Args:
        found: labels by text id.
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
        for place in reversed(found[text.id]):
            own = by_label[place]
            best.append(task.examples[max(own, key=lambda i: (row[i], -i))] if own else stand_ins[place])
        chosen_for[text.id] = tuple(best)
    return chosen_for
