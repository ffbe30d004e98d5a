"""Tags, asked for together: after a text the teacher begins a list of those that hold, and the words of every tag are read there.

    Sections: Does the digest hold news about any of these?
    - world: politics, governments, wars
    - sports: games, teams, athletes

    Digest: {worked example}
    Sections: sports, world

    Digest: {text}
    Sections:

The probability of a tag's words is its probability of yes; all else that the teacher might write, other tags or no tag at all, is
no. It is not the probability that the tag holds: of two that hold one comes first. But it orders the texts, and calibration brings
it to the tag's share. Asked for each tag by itself, a small teacher's yes or no hardly depends on the text (docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from scipy.special import logsumexp

from potstill.contract.questions.questionnaire import Ask
from potstill.contract.task import Label
from potstill.labeler.prompts import plain
from potstill.labeler.teacher import TeacherPath

_NONE = ("none", "nothing", "none of these")  # the first that is no tag's word is the list of a text without tags
_LEAST, _MOST = -1e3, -1e-9  # nats, of a tag's words: what rounding makes of 0 and 1 stays between


def shown(asks: Sequence[Ask]) -> list[Label]:
    """The tags with the words that stand for them; without words it is the name, with spaces. Args: asks, of one question."""
    by_name = {label.name: label for label in asks[0].question.labels}
    tags = [by_name[ask.tag] for ask in asks if ask.tag is not None]
    return [
        tag if tag.words else Label(name=tag.name, meaning=tag.meaning, words=[" ".join(tag.name.replace("_", " ").split())])
        for tag in tags
    ]


def none_word(asks: Sequence[Ask]) -> str:
    """The answer where no tag holds."""
    taken = {word.casefold() for tag in shown(asks) for word in tag.spellings}
    return next((word for word in _NONE if word not in taken), _NONE[-1])


def words(asks: Sequence[Ask]) -> tuple[str, ...]:
    """All words that are read: those of each tag, then the one for none."""
    return (*(word for tag in shown(asks) for word in tag.spellings), none_word(asks))


def words_of_tag(asks: Sequence[Ask], ask: Ask) -> list[str]:
    """What a tag's paths say yes and no with: its first word, for all its words, and the word for none, for all else."""
    return [shown(asks)[list(asks).index(ask)].spellings[0], none_word(asks)]


def head(asks: Sequence[Ask], number: int) -> list[str]:
    """The question, and a line for each tag. Args: number, of the prompt variant; another tag is first each time."""
    return [asks[0].question.asked_of_all, *(plain.answer_line(tag) for tag in _turned(shown(asks), number))]


def answer(asks: Sequence[Ask], held: Sequence[str], number: int) -> str:
    """The list of a worked example. Args: held, names of the tags that hold; number, decides which one comes first."""
    return ", ".join(tag.spellings[0] for tag in _turned(shown(asks), number) if tag.name in held) or none_word(asks)


def paths_of_tags(asks: Sequence[Ask], path: TeacherPath) -> list[TeacherPath]:
    """A path of each tag: the log-probabilities (nats) of its words, as yes, and of all else, as no. Args: path, of the list."""
    made, at = [], 0
    for ask, tag in zip(asks, shown(asks), strict=True):
        own = path.word_logprobs[at : at + len(tag.spellings)]
        at += len(own)
        yes = min(_MOST, max(_LEAST, float(logsumexp(own))))
        made.append(replace(path, question=ask.key, word_logprobs=(yes, math.log(-math.expm1(yes)))))
    return made


def _turned(tags: Sequence[Label], number: int) -> list[Label]:
    """The tags, another one first each time."""
    start = number % len(tags)
    return [*tags[start:], *tags[:start]]
