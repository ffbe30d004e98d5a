"""The gate for proposed rules: how many texts a rule matches, and whether the teacher agrees with it there more than by chance.

A rule is proposed from one half of the texts and judged on the other, since on the texts it was found in any rule looks good.

Axes: N texts, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from potstill.contract.files import digest
from potstill.contract.files.decode import Strict
from potstill.contract.task import Rule
from potstill.contract.texts import Text

LEVEL = 0.05  # probability that any rule without merit passes
MIN_TEXTS = 5  # that a rule matches in the judging half
N_SHOWN = 3  # matched texts that a person is shown
_SHOWN_CHARS = 160


@dataclass(frozen=True)
class TeacherLabels:
    """What the teacher says of the texts that rules are proposed from and judged on."""

    texts: list[Text]  # [N]
    labels: list[str]  # [C], in the task's order
    probs: NDArray[np.float64]  # [N, C], rows sum to 1

    @property
    def judging(self) -> NDArray[np.bool_]:
        """The texts that rules are judged on, about half, by the text's digest, bool [N]; from the others they are proposed."""
        keys = [f"rule proposals\n{text.text}".encode("utf-8", "surrogatepass") for text in self.texts]
        return np.array([int(digest.of_bytes(key)[:8], 16) % 2 == 1 for key in keys])


@dataclass(frozen=True)
class Proposal:
    """A rule that somebody proposes."""

    rule: Rule
    origin: str  # who proposes it: `words` or `teacher`


class JudgedRule(Strict, kw_only=True):
    """A proposed rule, and what the judging half of the texts says of it."""

    rule: Rule
    origin: str
    n_matched: int
    coverage: float  # share of the judging half that it matches, 0 to 1
    agreement: float  # share of the matched texts to which the teacher gives the rule's label, 0 to 1; 0 if none is matched
    chance: float  # share of all texts of that half with the label
    p_value: float  # of so much agreement or more by chance, for all proposals together (Holm)
    passed: bool
    examples: list[str]  # matched texts, those of which the teacher is least sure first, shortened


def judged(proposals: Sequence[Proposal], teacher: TeacherLabels) -> list[JudgedRule]:
    """Judge every proposal; those that passed first, by their p-value.

    The test: of the texts of the half, some have the label by the teacher; a rule without merit matches at random (hypergeometric,
    one-sided: Fisher's exact test).

    Args:
        proposals: rules of different names.
        teacher: its labels.
    Source of the correction: Holm 1979, Scandinavian Journal of Statistics 6(2).
    """
    own = np.flatnonzero(teacher.judging)
    texts = [teacher.texts[i] for i in own]
    favourites, surest = teacher.probs[own].argmax(axis=1), teacher.probs[own].max(axis=1)
    rows: list[tuple[float, Proposal, NDArray[np.int64]]] = []
    for proposal in proposals:
        matches = proposal.rule.matcher()
        matched = np.array([i for i, text in enumerate(texts) if matches(text.text)], dtype=np.int64)
        label = teacher.labels.index(proposal.rule.label)
        n_agreed, n_label = int((favourites[matched] == label).sum()), int((favourites == label).sum())
        p_value = float(hypergeom.sf(n_agreed - 1, len(texts), n_label, len(matched))) if len(matched) else 1.0
        rows.append((p_value, proposal, matched))
    rows.sort(key=lambda row: row[0])
    corrected = holm([p_value for p_value, _, _ in rows])
    found = []
    for (_, proposal, matched), p_value in zip(rows, corrected, strict=True):
        label = teacher.labels.index(proposal.rule.label)
        shown = matched[np.argsort(surest[matched], kind="stable")][:N_SHOWN]
        found.append(
            JudgedRule(
                rule=proposal.rule,
                origin=proposal.origin,
                n_matched=len(matched),
                coverage=len(matched) / max(len(texts), 1),
                agreement=float((favourites[matched] == label).mean()) if len(matched) else 0.0,
                chance=float((favourites == label).mean()),
                p_value=p_value,
                passed=p_value <= LEVEL and len(matched) >= MIN_TEXTS,
                examples=[" ".join(texts[i].text.split())[:_SHOWN_CHARS] for i in shown],
            )
        )
    return sorted(found, key=lambda row: not row.passed)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values: the probability that any rule without merit has so small a one. Args: p_values, rising."""
    largest, found = 0.0, []
    for rank, p_value in enumerate(p_values):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_value))
        found.append(largest)
    return found
