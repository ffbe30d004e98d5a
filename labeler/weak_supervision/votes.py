"""What sources say about texts: a vote is a distribution over the labels, and a source may abstain, or not have been asked.

Axes: S sources, N texts, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.texts import Text

Kind = Literal["teacher", "rule", "function", "answers", "bundle", "prototypes", "people"]
# Sources that decide for each text whether they vote: their silence says something about its label. The others are silent about
# texts that they were not asked about, which says nothing.
DECIDING: tuple[Kind, ...] = ("rule", "function", "prototypes")


@dataclass(frozen=True)
class SourceVotes:
    """One source's votes on N texts."""

    name: str  # unlike that of every other source
    kind: Kind
    probs: NDArray[np.float64]  # [N, C]; a row sums to 1 where the source votes, and is 0 where it abstains or was not asked
    asked: NDArray[np.bool_]  # [N]; False: the source has not seen the text, so that its silence means nothing

    @property
    def voted(self) -> NDArray[np.bool_]:
        """Whether the source votes on each text, bool [N]."""
        return np.asarray(self.probs.any(axis=1))


@dataclass(frozen=True)
class VoteTable:
    """The votes of all sources on the same texts."""

    texts: list[Text]  # [N]
    labels: list[str]  # [C]
    sources: list[SourceVotes]  # [S]; those that never vote are not among them
    silent: list[str]  # names of sources that voted on no text, and are left out

    @property
    def probs(self) -> NDArray[np.float64]:
        """All votes, float [S, N, C]."""
        return np.stack([source.probs for source in self.sources])

    @property
    def voted(self) -> NDArray[np.bool_]:
        """Who votes on what, bool [S, N]."""
        return np.stack([source.voted for source in self.sources])

    def find(self, name: str) -> SourceVotes:
        """The source of that name; raises UserError."""
        for source in self.sources:
            if source.name == name:
                return source
        raise UserError(f"no source {name!r} votes here; those that do: {', '.join(source.name for source in self.sources)}")


def source_votes(
    name: str, kind: Kind, texts: Sequence[Text], labels: Sequence[str], votes: Mapping[str, Mapping[str, float] | None]
) -> SourceVotes:
    """Arrange one source's votes as arrays.

    Args:
        name: of the source.
        kind: what it is.
        texts: [N].
        labels: [C], in the task's order.
        votes: by text id, a share for each label that the vote names, at least one above 0; None: the source abstains. A text
            that is not in it was not asked about.
    """
    places = {label: i for i, label in enumerate(labels)}
    probs = np.zeros((len(texts), len(labels)))
    asked = np.zeros(len(texts), dtype=np.bool_)
    for row, text in enumerate(texts):
        if text.id not in votes:
            continue
        vote = votes[text.id]
        asked[row] = vote is not None or kind in DECIDING
        for label, share in (vote or {}).items():
            probs[row, places[label]] = share
    totals = probs.sum(axis=1, keepdims=True)
    return SourceVotes(name, kind, np.divide(probs, totals, out=probs, where=totals > 0), asked)


def vote_table(texts: Sequence[Text], labels: Sequence[str], sources: Sequence[SourceVotes]) -> VoteTable:
    """Put the sources side by side; those that vote on no text are left out and named.

    Raises:
        UserError: if two sources have one name, or none votes.
    """
    names = [source.name for source in sources]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(f"two sources are named {repeated[0]!r}; give one of them another name: NAME=FILE")
    voting = [source for source in sources if source.voted.any()]
    if not voting:
        raise UserError(f"none of {len(sources)} sources votes on any of the {len(texts)} texts; check their ids and rules")
    return VoteTable(list(texts), list(labels), voting, [source.name for source in sources if not source.voted.any()])
