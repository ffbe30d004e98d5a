"""What a change of the task has done: which answers moved, and how many of those with gold are right before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import AnyTask
from potstill.review.corpus.texts import Corpus
from potstill.review.people.agreement import Shares, share_with_interval
from potstill.review.people.answers import ONLY, labels_of
from potstill.review.people.decided import Decided
from potstill.review.people.gold import settle

Gold = Mapping[str, Mapping[str, list[str]]]  # labels by question and text id


@dataclass(frozen=True)
class MovedAnswer:
    """An answer of the teacher that is another one now."""

    text_id: str
    question: Question
    before: list[str]
    after: list[str]
    gold: list[str] | None


@dataclass(frozen=True)
class QuestionMoved:
    """What moved of one question."""

    question: Question
    before: Shares  # of the texts with gold: right answers
    after: Shares
    n_better: int  # wrong before, right now
    n_worse: int


@dataclass(frozen=True)
class WhatMoved:
    """All that a change of the task has done."""

    n_asked: int  # texts that the teacher was asked about again
    n_texts: int
    questions: list[QuestionMoved]
    answers: list[MovedAnswer]


def gold_labels(corpus: Corpus, decided: Decided, task: AnyTask) -> dict[str, dict[str, list[str]]]:
    """Gold by question and text: what people settled about texts found at random, else what came with the texts.

    Texts that the task shows as worked examples are left out: the teacher has read their answers.
    """
    shown = {" ".join(example.text.split()) for example in task.examples}
    found: dict[str, dict[str, list[str]]] = {question.name: {} for question in corpus.questions}
    for text_id, text in corpus.texts.items():
        if text.gold is None or " ".join(text.text.split()) in shown:
            continue
        if [question.name for question in corpus.questions] == [ONLY]:
            found[ONLY][text_id] = [text.gold]
            continue
        for name, labels in parse_gold(corpus.path, f"text {text_id!r}", corpus.questions, text.gold).items():
            found[name][text_id] = labels
    for text_id in decided.texts():
        known = corpus.texts.get(text_id)
        if known is None or not decided.is_at_random(text_id) or " ".join(known.text.split()) in shown:
            continue
        for question in corpus.questions:
            settled = settle(decided, text_id, question.name)
            if settled is not None and settled.answer is not None:
                found[question.name][text_id] = labels_of(question, settled.answer)
    return found


def what_moved(before: Corpus, after: Corpus, gold: Gold, asked: Sequence[str]) -> WhatMoved:
    """Compare the teacher's answers. Args: asked, ids of the texts that it was asked about again."""
    questions, answers = [], []
    for question in before.questions:
        old, new = ({i: a.labels(question.kind) for i, a in corpus.answers[question.name].items()} for corpus in (before, after))
        truth = {i: labels for i, labels in gold[question.name].items() if i in old and i in new}
        right = {i: (old[i] == labels, new[i] == labels) for i, labels in truth.items()}
        n = len(right)
        questions.append(
            QuestionMoved(
                question,
                share_with_interval(sum(one for one, _ in right.values()), n),
                share_with_interval(sum(two for _, two in right.values()), n),
                sum(two and not one for one, two in right.values()),
                sum(one and not two for one, two in right.values()),
            )
        )
        moved = [i for i in new if i in old and old[i] != new[i]]
        answers += [MovedAnswer(i, question, old[i], new[i], truth.get(i)) for i in moved]
    return WhatMoved(len(asked), len(before.texts), questions, answers)
