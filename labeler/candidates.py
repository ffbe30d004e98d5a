"""Tasks with many labels: when a teacher is asked about candidates, and how the labels are shown there.

How the candidates are found is in `narrowing.py`, which needs an encoder.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import msgspec

from potstill.contract.task import Task
from potstill.labeler.config import LabelConfig

MANY_LABELS = 20  # a task with more of them is asked about candidates; as many fit into a prompt with their worked examples


@dataclass(frozen=True)
class Candidates:
    """The labels that the teacher is asked among about one text, and what is believed before it is asked."""

    labels: tuple[int, ...]  # indices in the task's order, most probable first
    log_prior: tuple[float, ...]  # of every label of the task, nats, normalised

    @property
    def outside(self) -> float:
        """Probability that the right label is no candidate, from 0 to 1."""
        return 1 - math.fsum(math.exp(self.log_prior[label]) for label in self.labels)


def is_narrowed(task: Task, config: LabelConfig) -> bool:
    """Whether the teacher is asked about candidates: the task has many labels, more than the wanted candidates."""
    return bool(config.candidates) and len(task.labels) > max(MANY_LABELS, config.candidates)


def many_labels(task: Task, config: LabelConfig) -> list[str]:
    """What happens with a task of many labels, a line for a person; none for a task of few."""
    if not is_narrowed(task, config):
        return []
    return [
        f"{len(task.labels)} labels: a teacher is asked about each text among at most {config.candidates}, those whose words, "
        "meanings and examples are most similar to it; a meaning and an example or two of each label make that sure"
    ]


def readable(name: str) -> str:
    """A label's name as words: `card_notWorking` becomes `card not Working`."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"[_\-/.]+", " ", name)).split())


def as_shown(task: Task) -> Task:
    """The task as it is shown where there are candidates: a label without words of its own has its name, made readable."""
    labels = [msgspec.structs.replace(label, words=label.words or [readable(label.name) or label.name]) for label in task.labels]
    return msgspec.structs.replace(task, labels=labels)
