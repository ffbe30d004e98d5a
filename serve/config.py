"""Settings of what is done with a bundle on files: answer, certify, check, adapt. Importing this file loads no onnxruntime."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from potstill.contract.errors import UserError
from potstill.contract.questions.decision import LabelSource
from potstill.contract.scores.bounds import SHIFT_LEVEL, Promise, Rule

Form = Literal["jsonl", "jsonl.gz", "csv", "parquet"]
FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True)
class PredictConfig:
    """Settings for answering a file."""

    workers: int | None = None  # texts answered in parallel; None: as many as usable cores
    sets: bool = False  # add the label set to every answer
    trust: bool = False  # open the bundle whatever operators and tokenizer parts are in it


@dataclass(frozen=True)
class CertifyConfig:
    """What is to be certified.

    Raises:
        UserError: if a value is out of range, or values do not fit each other.
    """

    accuracy: float = 0.9  # of the answers given, by people's labels, above 0 and below 1
    agreement: float | None = None  # the same with the labels of a teacher, in place of accuracy
    confidence: float = Promise.confidence  # of all bounds together
    per_label: bool = False  # each label's answers have the accuracy, from a switch of their own on
    slices: Mapping[str, str] = field(default_factory=dict)  # regular expressions by name: is it so on the texts that match, too?
    workers: int | None = None  # texts answered in parallel; None: as many as usable cores
    trust: bool = False  # open the bundle whatever operators and tokenizer parts are in it
    questions: tuple[str, ...] = ()  # of several: those to certify; none: all that have one answer and gold

    def __post_init__(self) -> None:
        """Check every value."""
        if not 0 < self.least < 1:
            raise UserError(f"{self.name} is {self.least:g}; it must be above 0 and below 1")
        Promise("bound", self.confidence)
        if self.per_label and self.slices:
            raise UserError("both per-label and slices are asked for, but slices are judged at one switch; certify one of the two")
        for name, expression in self.slices.items():
            try:
                re.compile(expression)
            except re.error as error:
                raise UserError(
                    f"slice {name!r}: {expression!r} is not a regular expression ({error}); use Python's syntax"
                ) from error

    @property
    def source(self) -> LabelSource:
        """Whose labels count as right."""
        return "gold" if self.agreement is None else "teacher"

    @property
    def name(self) -> str:
        """The name of what is certified."""
        return "accuracy" if self.agreement is None else "agreement"

    @property
    def least(self) -> float:
        """The wanted share of right answers."""
        return self.accuracy if self.agreement is None else self.agreement


@dataclass(frozen=True)
class ChecksConfig:
    """What is checked.

    Raises:
        UserError: if a value is out of range.
    """

    false_alarms: float = 0.01  # how often, at most, shares that have not changed are called changed; above 0 and below 1
    max_ms: float | None = None  # within which nearly all texts are answered, each alone, one after another; None: not checked
    workers: int | None = None  # texts answered in parallel; None: as many as usable cores
    trust: bool = False  # open the bundle whatever operators and tokenizer parts are in it

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.false_alarms < 1:
            raise UserError(f"false-alarms is {self.false_alarms:g}; it must be above 0 and below 1")
        if self.max_ms is not None and not 0 < self.max_ms < math.inf:
            raise UserError(f"max-ms is {self.max_ms:g}; it must be above 0")


@dataclass(frozen=True)
class SharesConfig:
    """How shares are estimated.

    Raises:
        UserError: if the confidence is out of range.
    """

    confidence: float = Promise.confidence  # of each interval for itself, at least 0.5 and below 1
    workers: int | None = None  # texts answered in parallel; None: as many as usable cores
    trust: bool = False  # open the bundle whatever operators and tokenizer parts are in it

    def __post_init__(self) -> None:
        """Check the range."""
        Promise("bound", self.confidence)


@dataclass(frozen=True)
class AdaptConfig:
    """Settings for adapting a bundle.

    Raises:
        UserError: if the level is out of range.
    """

    level: float = SHIFT_LEVEL  # significance level, above 0 and at most 1: adapt only if the test is below it; 1 always adapts
    workers: int | None = None  # texts answered in parallel; None: as many as usable cores
    trust: bool = False  # open the bundle whatever operators and tokenizer parts are in it
    questions: tuple[str, ...] = ()  # of several: those to adapt; none: all that have one answer

    def __post_init__(self) -> None:
        """Check the range of the level."""
        if not 0 < self.level <= 1:
            raise UserError(f"level is {self.level:g}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class CascadeConfig:
    """Settings for building a cascade.

    Raises:
        UserError: if the loss or the confidence is out of range.
    """

    max_loss: float = 0.01  # 0 to 1, against the slow graph; of the measure that `_measure` names
    workers: int | None = None  # texts answered in parallel; None: as many as usable cores
    trust: bool = False  # open both bundles whatever operators and tokenizer parts are in them
    rule: Rule = Promise.rule
    confidence: float = Promise.confidence  # of the bound

    def __post_init__(self) -> None:
        """Check every value."""
        if not 0 <= self.max_loss <= 1:
            raise UserError(f"max-loss is {self.max_loss:g}; it must be from 0 to 1")
        Promise(self.rule, self.confidence)


@dataclass(frozen=True)
class AuditConfig:
    """What an audit is held against.

    Raises:
        UserError: if a value is out of range.
    """

    confidence: float = 0.95  # of every interval, above 0 and below 1
    margin: float = 0.05  # by which agreement may be lower than stated, at least 0 and below 1
    stated: float | None = None  # agreement to hold it against, above 0 and at most 1; None: the bundle's own

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.confidence < 1:
            raise UserError(f"confidence is {self.confidence:g}; it must be above 0 and below 1")
        if not 0 <= self.margin < 1:
            raise UserError(f"margin is {self.margin:g}; it must be at least 0 and below 1")
        if self.stated is not None and not 0 < self.stated <= 1:
            raise UserError(f"stated is {self.stated:g}; it must be above 0 and at most 1")
