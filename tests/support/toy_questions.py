"""A toy task of four questions, one of each kind, whose answers words of the text give away; its soft labels and gold texts."""

import json
import random

from support.toy_task import CLUES, FILLERS, LABELS

from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import AnsweredExample, Questionnaire
from potstill.contract.questions.soft_answers import QuestionLabel, SoftAnswers
from potstill.contract.task import Input, Label
from potstill.contract.texts import Text, text_id

TAGS = {"news": ["report", "press"], "chart": ["candle", "trend"], "people": ["ceo", "crowd"]}
LEVELS = {"low": ["perhaps", "might"], "middle": ["likely", "think"], "high": ["surely", "certain"]}
ASKS = ["what", "why"]  # words of a text that is a question
WORDS = [*ASKS, *(word for words in (*TAGS.values(), *LEVELS.values()) for word in words)]  # beside those of the toy task

# The same questions as a file, without worked examples.
EVERY_KIND = """
format = 2
name = "toy"
[[questions]]
name = "move"
question = "Where does it go?"
labels = [{name = "up"}, {name = "flat"}, {name = "down"}]
[[questions]]
name = "asks"
kind = "yesno"
question = "Does the text ask something?"
[[questions]]
name = "topics"
kind = "tags"
question = "Does the text mention {tag}?"
labels = [{name = "news"}, {name = "chart"}, {name = "people"}]
[[questions]]
name = "sure"
kind = "degree"
question = "How sure is the author?"
labels = [{name = "low"}, {name = "middle"}, {name = "high"}]
"""


def a_questionnaire(*, target=False, **changes):
    """`move` (choice), `asks` (yesno), `topics` (tags), `sure` (degree)."""
    labels = {name: [Label(name=one) for one in names] for name, names in (("move", LABELS), ("topics", TAGS), ("sure", LEVELS))}
    questions = [
        Question(name="move", kind="choice", question="Where does it go?", labels=labels["move"]),
        Question(name="asks", kind="yesno", question="Does the text ask something?"),
        Question(name="topics", kind="tags", question="Does the text mention {tag}?", labels=labels["topics"]),
        Question(name="sure", kind="degree", question="How sure is the author?", labels=labels["sure"], values=[0.0, 0.5, 1.0]),
    ]
    about = "acme" if target else None
    examples = [
        AnsweredExample(text="calls surely", answers={"move": "up", "asks": False, "topics": [], "sure": "high"}, target=about),
        AnsweredExample(text="why puts", answers={"move": "down", "asks": True, "topics": ["chart"]}, target=about),
    ]
    values = {"format": 2, "name": "toy", "questions": questions, "examples": examples, "input": Input(target=target)}
    return Questionnaire(**values | changes)


def an_answered_text(rng):
    """(a text, its right answers by question, each a list of labels)."""
    move, sure = rng.choice(LABELS), rng.choice(list(LEVELS))
    asks, topics = rng.random() < 0.5, [tag for tag in TAGS if rng.random() < 0.4]
    words = [*rng.choices(FILLERS, k=rng.randint(1, 4)), rng.choice(CLUES[move]), rng.choice(LEVELS[sure])]
    words += [rng.choice(TAGS[tag]) for tag in topics] + [rng.choice(ASKS)] * asks
    rng.shuffle(words)
    return " ".join(words), {"move": [move], "asks": ["yes" if asks else "no"], "topics": topics, "sure": [sure]}


def question_label(question, right, share=0.875, n_paths=8):
    """What 8 paths say whose votes are right but for some. Args: right, the labels; share, of the votes for them."""
    names, n_right = question.label_names, round(share * n_paths)
    if question.kind == "tags":
        votes = {name: n_right if name in right else n_paths - n_right for name in names}
        probs = {name: votes[name] / n_paths for name in names}
    else:
        wrong = names[names.index(right[0]) - 1]
        votes = dict.fromkeys(names, 0) | {wrong: n_paths - n_right}
        votes[right[0]] += n_right
        probs = {name: votes[name] / n_paths for name in names}
    return QuestionLabel(
        probs=probs, votes=votes, agreement=share, n_paths=n_paths, entropy=0.1, label_mass=1.0, method="votes"
    )  # fmt: skip


def answer_rows(n, task, seed=0, *, left_out=(), with_gold=False):
    """Soft labels of n different texts. Args: left_out, names of questions that every other row does not answer."""
    rng, rows = random.Random(seed), {}
    while len(rows) < n:
        text, right = an_answered_text(rng)
        if text in rows:
            continue
        answers = {}
        for question in task.questions:
            skipped = question.name in left_out and len(rows) % 2 == 1
            share = rng.choice([0.75, 0.875, 1.0])
            answers[question.name] = None if skipped else question_label(question, right[question.name], share)
        target = "acme" if task.input.target else None
        rows[text] = SoftAnswers(
            id=text_id(text, target), text=text, target=target, answers=answers, teacher_digest="t" * 64,
            task_digest=task.digest, gold=right if with_gold else None,
        )  # fmt: skip
    return list(rows.values())


def answered_gold(n, seed=1):
    """n different texts with gold answers to all questions."""
    rng, texts = random.Random(seed), {}
    while len(texts) < n:
        text, right = an_answered_text(rng)
        given = {name: labels if name == "topics" else labels[0] for name, labels in right.items()}
        texts.setdefault(text, Text(text, text_id(text, None), gold=json.dumps(given, sort_keys=True)))
    return list(texts.values())
