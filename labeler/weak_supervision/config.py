"""How votes become soft labels, what is believed of a source, and who proposes rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from potstill.contract.errors import UserError
from potstill.labeler.aggregation.config import DeriveConfig, Refining


@dataclass(frozen=True)
class DawidSkeneConfig:
    """What is believed of a source before its votes are seen."""

    accuracy: float = 0.7  # share of a source's votes that is right, 0 to 1; as the prior of Snorkel's label model
    people: float = 0.95  # the same of a person's votes, who is one source among many and not the weakest
    strength: float = 100.0  # votes of each source that this belief is worth; 0: none, as in the paper


LabelModel = Literal["dawid-skene", "majority", "snorkel"]


LABEL_MODELS: tuple[str, ...] = get_args(LabelModel)


_SOURCE = DawidSkeneConfig()


@dataclass(frozen=True)
class CombineConfig:
    """How votes become soft labels; docs/weak_supervision.md says when to use what.

    Raises:
        UserError: if a value is not allowed.
    """

    method: LabelModel = "dawid-skene"
    prior: dict[str, float] | None = None  # stated share of every label; None: estimated by dawid-skene, else from the votes
    accuracy: float = _SOURCE.accuracy  # share of a source's votes believed right before they are compared, 0 to 1; not of people's
    strength: float = _SOURCE.strength  # votes of each source that this belief is worth; dawid-skene only
    without: tuple[str, ...] = ()  # names of sources that do not vote

    def __post_init__(self) -> None:
        """Refuse values that are wrong whatever the labels are."""
        if self.method not in LABEL_MODELS:
            raise UserError(f"method is {self.method!r}; allowed: {', '.join(LABEL_MODELS)}")
        if not 0 < self.accuracy < 1:
            raise UserError(f"accuracy is {self.accuracy:g}; it must be above 0 and below 1")
        if not 0 <= self.strength < math.inf:
            raise UserError(f"strength is {self.strength:g}; it must be a number of votes, 0 or more")
        DeriveConfig(prior=self.prior)  # its checks of a prior


EXAMPLES = "examples"  # in place of a file of prototypes: the worked examples of the task


Proposer = Literal["words", "teacher", "both"]


PROPOSERS: tuple[str, ...] = get_args(Proposer)


@dataclass(frozen=True)
class ProposeConfig:
    """Who proposes rules.

    Raises:
        UserError: if there is no such proposer.
    """

    by: Proposer = "words"  # that stand in texts of which the teacher is sure, or that the teacher itself names, or both
    run: int | None = None  # of the store; None: the newest
    refine: Refining = DeriveConfig.refine  # of the labels that rules are found and judged with

    def __post_init__(self) -> None:
        """Refuse an unknown proposer."""
        if self.by not in PROPOSERS:
            raise UserError(f"by is {self.by!r}; allowed: {', '.join(PROPOSERS)}")
