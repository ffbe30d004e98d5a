"""Terms that the teacher may not know, from the texts that people answered otherwise."""

from __future__ import annotations

import numpy as np

from potstill.contract.questions.questionnaire import AnyTask, Questionnaire
from potstill.review.corpus.texts import Corpus
from potstill.review.people.answers import ONLY
from potstill.review.steering.changes import ProposedTerm
from potstill.review.steering.what_moved import Gold
from potstill.trainer.report.answers import AnsweredTexts
from potstill.trainer.report.terms import mistake_terms

MIN_GOLD = 20  # texts; with fewer, no term can stand out


def proposed_terms(corpus: Corpus, task: AnyTask, gold: Gold) -> list[ProposedTerm]:
    """The terms most over-represented in texts that the teacher gets wrong, as the report of a student finds them for its mistakes.

    Args:
        gold: by question and text id.
    Returns:
        None of them for a task of several questions, or with too few gold texts.
    """
    if isinstance(task, Questionnaire):
        return []
    answers = corpus.answers[ONLY]
    ids = [text_id for text_id, labels in gold[ONLY].items() if text_id in answers and labels[0] in task.label_names]
    if len(ids) < MIN_GOLD:
        return []
    answered = AnsweredTexts(
        task,
        [corpus.texts[text_id] for text_id in ids],
        np.array([task.label_names.index(gold[ONLY][text_id][0]) for text_id in ids]),
        np.array([[answers[text_id].probs[name] for name in task.label_names] for text_id in ids]),
        [None] * len(ids),
    )
    return [ProposedTerm(one.term, one.n, one.n_wrong, one.mixup, one.stands_out) for one in mistake_terms(answered)]
