"""Which text each person is shown next: a random order or a ranked one, dealt among the people, with some for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal, get_args

from potstill.contract.errors import UserError
from potstill.labeler.store.people import Mode
from potstill.review.people.decided import AT_RANDOM, Decided

Queue = Literal["random", "ranked"]
QUEUES: tuple[str, ...] = get_args(Queue)


@dataclass(frozen=True)
class ReviewSettings:
    """Who labels, and in which order; :func:`deal` refuses what is out of range."""

    people: tuple[str, ...] = ("reviewer",)  # names, each once
    queue: Queue = "random"
    overlap: float = 0.2  # share of each queue that all people are shown, where there are several
    seed: int = 0  # of the random order


@dataclass(frozen=True)
class Place:
    """A text in a queue, and how it came there."""

    text_id: str
    mode: Mode


def random_order(ids: Sequence[str], seed: int = 0) -> list[str]:
    """The ids in an order that depends on the seed and on each id alone: texts that are added later do not move the others."""
    return sorted(ids, key=lambda text_id: hashlib.sha256(f"{seed}\0{text_id}".encode("utf-8", "surrogatepass")).digest())


def deal(order: Sequence[str], settings: ReviewSettings) -> dict[str, list[Place]]:
    """The queue of each person.

    Texts for all people are drawn at random whatever the queue is, and come to everybody in one order. The other texts are dealt
    one by one. With one person there are none for all.

    Args:
        order: ids of all texts, in random or ranked order.
    Raises:
        UserError: if the overlap is out of range.
    """
    people, overlap = settings.people, settings.overlap
    if not 0 <= overlap <= 1:
        raise UserError(f"overlap is {overlap:g}; it must be a share from 0 to 1")
    n = len(people)
    share = overlap / (n - overlap * (n - 1)) if n > 1 else 0.0  # of all texts, so that `overlap` of each queue is for all
    together = random_order(order, settings.seed)[: round(share * len(order))]
    chosen = set(together)
    own: dict[str, list[str]] = {person: [] for person in people}
    for text_id, person in zip((text_id for text_id in order if text_id not in chosen), cycle(people), strict=False):
        own[person].append(text_id)
    return {person: list(_between(own[person], together, settings.queue)) for person in people}


def _between(own: Sequence[str], together: Sequence[str], queue: Queue) -> Iterator[Place]:
    """A person's own texts with those for all spread evenly among them."""
    n = len(own) + len(together)
    rest = iter(own)
    taken = 0
    for place in range(1, n + 1):
        due = -(-place * len(together) // n)  # rounded up: the first text of all is one for all people
        if due > taken:
            yield Place(together[taken], "overlap")
            taken += 1
        else:
            yield from (Place(text_id, queue) for text_id in islice(rest, 1))


def next_place(places: Sequence[Place], decided: Decided, person: str) -> Place | None:
    """The first text of a person's queue that waits for a decision; None if there is none.

    A text that was found by chance counts as decided only if it was decided when its turn came: one that the person has looked for
    and labelled is shown again, else the random sample would lack what people look for.
    """
    done, at_random = decided.texts_of(person), decided.texts_of(person, at_random=True)
    return next((place for place in places if place.text_id not in (at_random if place.mode in AT_RANDOM else done)), None)
