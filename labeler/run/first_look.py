"""The teacher's own first look at a text of a task with many labels: one short question for each group of similar labels.

No prompt shows worked examples here: a group's labels stand in the part that all texts share, so a text costs its own tokens and
those of the labels' names, once for each group. What the teacher says of a name counts against what it says where there is no text
at all (contextual calibration: Zhao et al. 2021, arXiv:2102.09690), which makes the answers of different groups comparable.

Axes: N texts, C labels, W label words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.narrowed import per_letter
from potstill.labeler.candidates import Candidates, as_shown
from potstill.labeler.config import LabelConfig
from potstill.labeler.narrowing import chosen
from potstill.labeler.prompts.variants import Nearest, prompt_variants
from potstill.labeler.teacher import Teacher, TeacherPath

WEIGHT = 1.0  # of what the teacher says at first sight beside similarity
_NOTHING = "first look: no text"  # id of the request that shows what the teacher prefers without a text
_BLANK = "N/A"


def looked_at(task: Task, texts: Sequence[Text], teacher: Teacher, config: LabelConfig, nearest: Nearest) -> dict[str, Candidates]:
    """The candidates of each text, by text id: from what similarity says of it, and the teacher at first sight.

    Args:
        config: prompts, and how many candidates there are at most.
        nearest: what similarity chose for the texts, and the groups of labels.
    Raises:
        UserError: if the teacher fails.
    """
    if not texts:
        return {}
    before = np.array([nearest.candidates[text.id].log_prior for text in texts])
    said = first_look(task, texts, teacher, config, nearest.groups)
    return chosen(texts, before + WEIGHT * said, config.candidates)


def first_look(
    task: Task, texts: Sequence[Text], teacher: Teacher, config: LabelConfig, groups: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Evidence of the teacher for every label, float [N, C] in nats: above 0 where it is likelier than without a text.

    Args:
        config: prompts; mode and numbers of paths are left aside.
        groups: of labels, each of which is one question; together they are all labels.
    Raises:
        UserError: if the teacher fails.
    """
    shown = as_shown(task)
    found = np.zeros((len(texts), len(task.labels)))
    for labels in groups:
        own = msgspec.structs.replace(shown, labels=[shown.labels[label] for label in labels], examples=[])
        found[:, labels] = _group(own, texts, teacher, config)
    return found


def _group(task: Task, texts: Sequence[Text], teacher: Teacher, config: LabelConfig) -> NDArray[np.float64]:
    """The evidence for the labels of one group, float [N, C of the group]; 0 of a text that is too long."""
    asked = replace(config, mode="direct", n_paths=1, n_variants=1, candidates=0, examples="given", bound=0.0, thoughts="auto")
    variant = prompt_variants(task, asked, teacher.identity)[0]
    nothing = Text(_BLANK, _NOTHING, target=_BLANK if task.input.target else None)
    requests = [variant.request(text, (0,)) for text in [nothing, *texts]]
    answers: dict[str, NDArray[np.float64]] = {}
    for result in teacher.answer(variant.prefix, variant.number, requests, variant.spec, config.seed):
        if isinstance(result, TeacherPath):
            answers[result.text_id] = _of_labels(task, np.array(result.word_logprobs), variant.spec.words)
    without = answers.get(_NOTHING)
    if without is None:
        return np.zeros((len(texts), len(task.labels)))
    return np.array([answers.get(text.id, without) - without for text in texts])


def _of_labels(task: Task, logprobs: NDArray[np.float64], words: Sequence[str]) -> NDArray[np.float64]:
    """What is said of each label, float [C], by its likeliest words. Args: logprobs float [W], of the words."""
    per_word = per_letter(logprobs[None, :], words)[0]
    n_each = [len(words) // len(task.labels)] * len(task.labels)
    if len(words) != len(task.labels):
        n_each = [len(label.spellings) for label in task.labels]
    ends = np.cumsum(n_each)
    return np.array([logsumexp(per_word[end - n : end]) for end, n in zip(ends, n_each, strict=True)])
