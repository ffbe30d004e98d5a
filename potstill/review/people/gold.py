"""What people's labels amount to: the settled answer to each question of a text, and the file of gold texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec

from potstill.contract.questions.gold import Given
from potstill.contract.questions.question import Question
from potstill.contract.texts import Text
from potstill.review.people.answers import ONLY, key_of
from potstill.review.people.decided import Decided

GoldMode = Literal["random", "all"]
GOLD_MODES: tuple[str, ...] = get_args(GoldMode)


@dataclass(frozen=True)
class Settled:
    """What people say about one question of a text, taken together."""

    how: Literal["one", "agreed", "majority", "resolved", "open", "skipped"]
    answer: Given | None = None  # None: open, where as many say one thing as another, or everybody skipped it


@dataclass(frozen=True)
class GoldChoice:
    """Which of people's labels become gold."""

    mode: GoldMode = "random"  # only texts that were found at random, so that scores on them are honest; all: the others too
    people: tuple[str, ...] = ()  # whose labels count; empty: everybody's


@dataclass(frozen=True)
class GatheredGold:
    """Gold texts from people's labels, and what was left out of them."""

    texts: list[Text]  # `gold` is the answer, or JSON of the answers by question
    n_answers: int
    n_resolved: int  # answers among them that a resolution gave
    n_open: int  # answers that are left out: people disagree, and nobody has settled it
    n_skipped: int  # texts that everybody skipped
    n_found: int  # texts that are left out because they were not found at random
    n_revealed: int  # texts of which somebody had seen the teacher's answer first
    n_shown: int = 0  # texts that are left out because the task shows them as worked examples

    def as_text(self) -> str:
        """A few lines for a person."""
        lines = [f"{len(self.texts)} gold texts with {self.n_answers} answers, {self.n_resolved} of them resolved"]
        for n, what in (
            (self.n_open, "answers are left out: people disagree and nobody has resolved it (page Disagreements)"),
            (self.n_skipped, "texts are left out: skipped"),
            (self.n_found, "texts are left out: not found at random (--mode all takes them)"),
            (self.n_shown, "texts are left out: the task shows them as worked examples"),
            (self.n_revealed, "texts were labelled after the teacher's answer was shown"),
        ):
            lines += [f"{n} {what}"] if n else []
        return "\n".join(lines)


_CHOICE = GoldChoice()


def settle(decided: Decided, text_id: str, question: str, people: Sequence[str] | None = None) -> Settled | None:
    """The answer to one question of a text: the resolution if there is one, else that of more people than any other.

    Args:
        people: those who count; then resolutions do not. None: everybody.
    Returns:
        None if nobody has decided about it.
    """
    resolution = decided.resolution(text_id, question) if people is None else None
    if resolution is not None:
        return Settled("resolved", resolution.labels)
    latest = decided.latest(text_id, question)
    rows = [row for person, row in latest.items() if people is None or person in people]
    given = {key_of(row.labels): row.labels for row in rows if row.labels is not None}
    counts = Counter(key_of(row.labels) for row in rows if row.labels is not None).most_common(2)
    if not counts:
        return Settled("skipped") if rows else None
    if len(counts) == 2 and counts[0][1] == counts[1][1]:
        return Settled("open")
    how: Any = "majority" if len(counts) == 2 else "agreed" if counts[0][1] > 1 else "one"
    return Settled(how, given[counts[0][0]])


def gathered_gold(
    texts: Mapping[str, Text],
    questions: Sequence[str],
    decided: Decided,
    choice: GoldChoice = _CHOICE,
    shown: Collection[str] = (),
) -> GatheredGold:
    """The gold texts of a journal, in the order in which they were first decided.

    Args:
        texts: of the store, by id.
        questions: their names.
        choice: which labels count.
        shown: texts, with single spaces, that the task shows as worked examples; they are left out.
    """
    people = choice.people or None
    gold: list[Text] = []
    n: Counter[str] = Counter()
    for text_id in decided.texts():
        found = {name: settled for name in questions if (settled := settle(decided, text_id, name, people))}
        if not found or text_id not in texts:
            continue
        if " ".join(texts[text_id].text.split()) in shown:
            n["shown"] += 1
            continue
        if choice.mode == "random" and not decided.is_at_random(text_id, people):
            n["found"] += 1
            continue
        answers = {name: settled.answer for name, settled in found.items() if settled.answer is not None}
        n["open"] += sum(settled.how == "open" for settled in found.values())
        n["skipped"] += all(settled.how == "skipped" for settled in found.values())
        if not answers:
            continue
        n["answers"] += len(answers)
        n["resolved"] += sum(settled.how == "resolved" for settled in found.values())
        n["revealed"] += any(row.revealed for row in decided.counting(text_id) if people is None or row.person in people)
        value = str(answers[ONLY]) if list(questions) == [ONLY] else msgspec.json.encode(answers, order="sorted").decode()
        gold.append(msgspec.structs.replace(texts[text_id], gold=value))
    return GatheredGold(gold, n["answers"], n["resolved"], n["open"], n["skipped"], n["found"], n["revealed"], n["shown"])


def gold_file(texts: Sequence[Text], questions: Sequence[Question] | Sequence[str]) -> bytes:
    """Gold texts as JSON lines; answers to several questions are an object."""
    names = [one if isinstance(one, str) else one.name for one in questions]
    lines = []
    for text in texts:
        row: dict[str, Any] = {"text": text.text, "id": text.id}
        row |= {"target": text.target} if text.target else {}
        row["gold"] = text.gold if names == [ONLY] else msgspec.json.decode(text.gold or "{}")
        lines.append(msgspec.json.encode(row) + b"\n")
    return b"".join(lines)
