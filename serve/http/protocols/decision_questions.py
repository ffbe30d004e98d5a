"""The questions of `/v1/decisions`: which of them a bundle decides, and how it answers.

A bundle of one choice answers a choice whose values are exactly its labels, in any order, and a predicate of the bundle's name if
its labels are yes and no, or true and false. One of several questions answers

    choice       if the name is a question's and the values are its labels; or if no question has that name, and the values are the
                 labels of one question alone. Yes and no, or true and false, are anybody's: among several they need the name
    predicate    if the name is that of a yes-or-no question, or `QUESTION/TAG`
    score        if the levels are those of a degree, upwards or downwards, and the name is its own or no question's

A predicate without a name is refused even where there is one yes-or-no question: what it states stands in the instructions, which
are not read, so any other statement would get the same answer. A request may ask about a tag alone, so all its tags are predicates.
A score's levels are numbered from 0 in the order of the request, and the score is their mean, weighted by probability.
Source: the Python package `openai` 3.54, `openai/types/decision_create_params.py` and `openai/types/decision.py`; levels from 0:
LangChain's reference of `langchain_openai.decisions.Score`.
"""

from __future__ import annotations

import math

import msgspec

from potstill.serve.http.asgi import Refused
from potstill.serve.http.hosting.open_bundle import HostedBundle
from potstill.serve.runtime.classifier import Answer
from potstill.serve.runtime.heads import QuestionAnswer

MAX_CHOICES = 255
_YES_NO = ({"yes": True, "no": False}, {"true": True, "false": False})  # labels of a bundle that answers predicates


class Choice(msgspec.Struct, frozen=True):
    """One option of a question."""

    value: str | bool


class Level(msgspec.Struct, frozen=True):
    """One step of a scale."""

    label: str


class QuestionAsked(msgspec.Struct, frozen=True):
    """A question of a request."""

    type: str
    instructions: str | list[msgspec.Raw]
    name: str | None = None
    choices: list[Choice] | None = None
    levels: list[Level] | None = None


class ChoiceProbability(msgspec.Struct, frozen=True):
    """An option with its probability, from 0 to 1."""

    value: str | bool
    probability: float


class ChoiceAnswer(msgspec.Struct, frozen=True, tag_field="type", tag="choice"):
    """The answer to a choice."""

    choice: str | bool
    confidence: float  # the probability of the choice
    probabilities: list[ChoiceProbability]  # in the order of the request; they sum to 1
    name: str | None = None


class PredicateAnswer(msgspec.Struct, frozen=True, tag_field="type", tag="predicate"):
    """The answer to a predicate."""

    probability: float
    name: str | None = None


class LevelProbability(msgspec.Struct, frozen=True):
    """A level with its place in the request, from 0, and its probability."""

    label: str
    value: int
    probability: float


class ScoreAnswer(msgspec.Struct, frozen=True, tag_field="type", tag="score"):
    """The answer to a score."""

    score: float  # the expected place of the level in the request, from 0; it may lie between two levels
    confidence: float  # the probability of the most probable level
    probabilities: list[LevelProbability]  # in the order of the request; they sum to 1
    name: str | None = None


class Refusal(msgspec.Struct, frozen=True, tag_field="type", tag="refusal"):
    """No answer: the bundle does not decide this question, or abstains."""

    name: str | None = None


Decided = ChoiceAnswer | PredicateAnswer | ScoreAnswer | Refusal


def check_question(question: QuestionAsked, where: str) -> None:
    """Refuse a question that is no question; raises Refused: 400."""
    if question.type not in ("choice", "predicate", "score"):
        raise Refused(400, f"{where}.type is {question.type!r}; allowed: choice, predicate, score")
    if question.type != "choice":
        return
    values = [(type(choice.value), choice.value) for choice in question.choices or []]
    if not 2 <= len(values) <= MAX_CHOICES:
        raise Refused(400, f"{where}.choices has {len(values)} entries; 2 to {MAX_CHOICES} are allowed")
    if len(set(values)) < len(values):
        raise Refused(400, f"{where}.choices has a value twice; each must be unique")


def answer_to(question: QuestionAsked, found: Answer, hosted: HostedBundle) -> Decided:
    """The answer to one question, or a refusal. Args: found, the bundle's answers about the text."""
    if found.questions is not None:
        meant = _meant(question, found.questions, hosted.name)
        return Refusal(question.name) if meant is None or meant.abstain else _decided(question, meant)
    if found.abstain:
        return Refusal(question.name)
    if question.type == "predicate" and question.name == hosted.name:
        is_truth = _truth(hosted.manifest.labels)
        return PredicateAnswer(_true_share(found.probs), question.name) if is_truth else Refusal(hosted.name)
    if question.type != "choice":
        return Refusal(question.name)
    values = _values(question, hosted.manifest.labels)
    return Refusal(question.name) if values is None else _chosen(question, values, found.label, found.probs)


def _meant(asked: QuestionAsked, found: dict[str, QuestionAnswer], bundle: str) -> QuestionAnswer | None:
    """The answer to the one of several questions that is asked for, by its name or else by its options; None if none surely is."""
    name = asked.name or ""
    if asked.type == "predicate":
        question, _, tag = name.partition("/")
        if len(found) == 1 and name == bundle:
            question = next(iter(found))
        one = found.get(question)
        if one is None:
            return None
        fits = one.tags is not None and tag in one.probs if tag else one.tags is None and _truth(list(one.probs))
        return one if fits else None
    named = found.get(name)
    fitting = [one for one in ([named] if named is not None else found.values()) if one.tags is None and _fits(asked, one)]
    if len(fitting) != 1:
        return None
    # yes and no are the options of any question, so among several they do not say which one is meant
    return None if named is None and len(found) > 1 and _truth(list(fitting[0].probs)) else fitting[0]


def _fits(asked: QuestionAsked, one: QuestionAnswer) -> bool:
    """Whether the options of a choice are exactly the labels, or the levels of a score are those of a degree, up or down."""
    labels = list(one.probs)
    if asked.type == "choice":
        return _values(asked, labels) is not None
    levels = [level.label for level in asked.levels or []]
    return one.kind == "degree" and levels in (labels, labels[::-1])


def _decided(asked: QuestionAsked, one: QuestionAnswer) -> Decided:
    """The answer to a question, which fits what is asked."""
    if asked.type == "predicate":
        tag = (asked.name or "").partition("/")[2]
        return PredicateAnswer(one.probs[tag] if tag else _true_share(one.probs), asked.name)
    if asked.type == "choice":
        return _chosen(asked, _values(asked, list(one.probs)) or {}, one.label, one.probs)
    rows = [LevelProbability(level.label, place, one.probs[level.label]) for place, level in enumerate(asked.levels or [])]
    return ScoreAnswer(math.fsum(row.value * row.probability for row in rows), max(one.probs.values()), rows, asked.name)


def _true_share(probs: dict[str, float]) -> float:
    """The probability of the label that says yes, or true. Args: of yes and no, or true and false."""
    truth = _truth(list(probs))
    return sum(prob for name, prob in probs.items() if truth[name])


def _chosen(asked: QuestionAsked, values: dict[str | bool, str], label: str, probs: dict[str, float]) -> ChoiceAnswer:
    """The answer to a choice. Args: the label that each option stands for; the label answered; probabilities by label."""
    probabilities = [ChoiceProbability(value, probs[name]) for value, name in values.items()]
    return ChoiceAnswer(next(value for value, name in values.items() if name == label), probs[label], probabilities, asked.name)


def _values(asked: QuestionAsked, labels: list[str]) -> dict[str | bool, str] | None:
    """The label that each option stands for, in the order of the request; None unless they are all labels, each once."""
    found = {choice.value: _label(choice.value, labels) for choice in asked.choices or []}
    known = {value: label for value, label in found.items() if label is not None}
    return known if len(known) == len(found) == len(labels) == len(set(known.values())) else None


def _label(value: str | bool, labels: list[str]) -> str | None:
    """The label that an option stands for; None if it is none of them."""
    if isinstance(value, bool):
        return next((name for name, true in _truth(labels).items() if true is value), None)
    return value if value in labels else None


def _truth(labels: list[str]) -> dict[str, bool]:
    """What each label says, where they are yes and no, or true and false, in any case; else nothing."""
    for words in _YES_NO:
        if sorted(name.lower() for name in labels) == sorted(words):
            return {name: words[name.lower()] for name in labels}
    return {}
