"""Worked examples chosen for each text: of every label those that are most similar to it, the most similar one last."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.contract.files import digest
from potstill.contract.task import Example, Task
from potstill.contract.texts import Text
from potstill.labeler.embeddings import embeddings
from potstill.labeler.prompts.variants import Nearest
from potstill.models.catalog import ModelFolder


def nearest_examples(task: Task, texts: Sequence[Text], n_per_label: int, backbone: ModelFolder) -> Nearest:
    """The examples for these texts; of two that are equally similar the earlier one in the task counts as the nearer.

    Args:
        texts: the texts that will be asked about.
        n_per_label: examples of each label, at least 1; fewer where the task has fewer.
        backbone: the encoder in whose embedding space similarity is measured.
    Raises:
        FormatError: if the backbone cannot be read.
    """
    shown = [Text(example.text, target=example.target) for example in task.examples]
    points = embeddings([*texts, *shown], backbone.path)
    similar = points[: len(texts)] @ points[len(texts) :].T  # [N, E]; rows have length 1, so these are cosines
    by_label = [[i for i, example in enumerate(task.examples) if example.label == name] for name in task.label_names]
    chosen: dict[str, tuple[Example, ...]] = {}
    for text, row in zip(texts, similar.tolist(), strict=True):
        kept = [i for own in by_label for i in sorted(own, key=lambda i: (-row[i], i))[:n_per_label]]
        chosen[text.id] = tuple(task.examples[i] for i in sorted(kept, key=lambda i: (row[i], -i)))
    return Nearest(chosen, digest.of_value([n_per_label, backbone.sha256]))
