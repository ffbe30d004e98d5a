"""A label store of the toy task of several questions, filled with made-up paths."""

import json
import math

from support.toy_questions import a_questionnaire, an_answered_text

from potstill.contract.texts import Text
from potstill.labeler.store.database import LabelStore, RunSettings
from potstill.labeler.store.questions import OneQuestion
from potstill.labeler.teacher import TeacherPath


def settings_of(ask, task, **changes):
    """The settings of a run that asks one question."""
    values = {
        "task_digest": "", "prompt_digest": "p", "labels": ask.task.label_names, "words": ask.task.label_names,
        "word_labels": list(range(len(ask.task.labels))), "teacher": "m", "teacher_digest": "d" * 64, "source_digest": "d",
        "build": "b", "mode": "direct", "n_variants": 4, "temperature": 0.5, "max_rationale_tokens": 40, "seed": 0,
    }  # fmt: skip
    return OneQuestion(ask, task.digest).named(RunSettings(**values | changes))


def question_store(file, rng, n=60, *, n_gold=0, skip=lambda key, i: False, sure=0.8):
    """Texts whose every path gives the right label that probability in variant 0 and a little less in the others.

    Args:
        n_gold: of the texts, the first ones carry gold.
        skip: whether a question has no path of a text.
    Returns:
        The task, and the right answers by text id.
    """
    task, right = a_questionnaire(), {}
    with LabelStore.create(file) as store:
        texts = []
        for i in range(n):
            text, answers = an_answered_text(rng)
            given = {name: labels if name == "topics" else labels[0] for name, labels in answers.items()}
            texts.append(Text(f"{text} {i}", f"{i:03d}", gold=json.dumps(given) if i < n_gold else None))
            right[texts[-1].id] = answers
        store.add_texts(texts)
        for ask in task.asks():
            run = store.begin_run(settings_of(ask, task))
            paths = []
            for i, text in enumerate(texts):
                answers, names = right[text.id][ask.question.name], ask.task.label_names
                label = answers[0] if ask.tag is None else "yes" if ask.tag in answers else "no"
                for number in range(0 if skip(ask.key, i) else 4):
                    p = sure - 0.05 * number
                    probs = [p if name == label else (1 - p) / (len(names) - 1) for name in names]
                    paths.append(TeacherPath(text.id, number, number, 0, "", tuple(map(math.log, probs)), 5, 0))
            store.add(run, paths)
    return task, right
