"""Join votes to soft labels by a label model.

Axes: S sources, N texts, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.contract.soft_label import SoftLabel, entropy
from potstill.contract.texts import Text
from potstill.labeler.aggregation.calibration import prior_shares
from potstill.labeler.aggregation.config import DeriveConfig, check_derive
from potstill.labeler.aggregation.other_texts.text_prior import refined
from potstill.labeler.weak_supervision.config import CombineConfig, DawidSkeneConfig
from potstill.labeler.weak_supervision.label_models.dawid_skene import DawidSkeneFit, dawid_skene
from potstill.labeler.weak_supervision.label_models.majority import majority
from potstill.labeler.weak_supervision.label_models.snorkel import snorkel
from potstill.labeler.weak_supervision.votes import VoteTable

_TINY = 1e-9


@dataclass(frozen=True)
class Combination:
    """What a label model makes of votes."""

    probs: NDArray[np.float64]  # [N, C], rows sum to 1
    shares: NDArray[np.float64]  # [C], of the labels, as stated or estimated
    fit: DawidSkeneFit | None  # of dawid-skene
    warnings: list[str]  # a line each, for a person
    refined: bool = False  # whether what other texts say is part of it


def combined(votes: VoteTable, config: CombineConfig) -> Combination:
    """One distribution for every text.

    Args:
        votes: of S sources on N texts.
        config: the label model, and what it is told.
    Raises:
        UserError: if the prior does not fit the labels, or the model needs more sources.
        ModuleNotFoundError: if the model is Snorkel's, and that is not installed.
    """
    stated = None
    if config.prior is not None:
        derive = DeriveConfig(prior=config.prior)
        check_derive(derive, votes.labels)
        stated = prior_shares(derive, votes.labels)
    start = majority(votes, np.full(len(votes.labels), 1 / len(votes.labels)) if stated is None else stated)
    if config.method == "majority":
        return Combination(start, start.mean(axis=0) if stated is None else stated, None, [])
    if config.method == "snorkel":
        shares = start.mean(axis=0) if stated is None else stated
        return Combination(snorkel(votes, shares, config.accuracy), shares, None, [])
    fit = dawid_skene(votes, start, stated, DawidSkeneConfig(accuracy=config.accuracy, strength=config.strength))
    warnings = [] if fit.converged else [f"dawid-skene was still changing after {len(fit.log_likelihoods)} rounds"]
    return Combination(fit.probs, fit.prior, fit, warnings)


def refined_combination(found: Combination, texts: Sequence[Text], vectors: NDArray[np.float32]) -> Combination:
    """The combination with what all other texts say as a prior for each text, in place of the labels' shares.

    What a rule says about its texts then reaches the texts that resemble them.

    Args:
        found: of N texts.
        texts: [N].
        vectors: float32 [N, H], embeddings of the texts, rows of length 1.
    """
    probs = refined(found.probs, np.log(np.maximum(found.shares, _TINY)), vectors, texts)
    return replace(found, probs=probs, refined=True)


def without_sources(votes: VoteTable, names: tuple[str, ...]) -> VoteTable:
    """The votes of all sources but these; raises UserError if there is none of that name, or none is left."""
    for name in names:
        if name not in votes.silent:
            votes.find(name)
    kept = [source for source in votes.sources if source.name not in names]
    if not kept:
        raise UserError("no source is left to vote; leave out fewer with --without")
    return VoteTable(votes.texts, votes.labels, kept, [name for name in votes.silent if name not in names])


def combined_soft_labels(
    votes: VoteTable,
    found: Combination,
    config: CombineConfig,
    teachers: Mapping[str, Mapping[str, SoftLabel]],
    task_digest: str,
) -> list[SoftLabel]:
    """The soft labels of a combination: the votes are those of the sources, each for its most probable label.

    Texts that no source votes on are left out.

    Args:
        votes: of S sources on N texts.
        found: what the label model made of them.
        config: how.
        teachers: by source and text id, the soft labels of teachers alone, for their digests and label mass.
        task_digest: of the task.
    """
    voted, favourites = votes.voted, votes.probs.argmax(axis=2)  # [S, N]
    origin = digest.of_value([[source.name, digest.of_bytes(source.probs.tobytes())] for source in votes.sources])
    voting = [teachers[source.name] for source in votes.sources if source.name in teachers]
    origins = sorted({row.teacher_digest for rows in voting for row in rows.values()})
    name = f"{config.method}({len(votes.sources)} sources)" + ("+refined" if found.refined else "")
    found_rows = []
    for i, text in enumerate(votes.texts):
        counts = np.bincount(favourites[voted[:, i], i], minlength=len(votes.labels)).tolist()
        if not sum(counts):
            continue
        probs = found.probs[i].tolist()
        masses = [own[text.id].label_mass for own in voting if text.id in own]
        found_rows.append(
            SoftLabel(
                id=text.id,
                text=text.text,
                target=text.target,
                gold=text.gold,
                probs=dict(zip(votes.labels, probs, strict=True)),
                votes=dict(zip(votes.labels, counts, strict=True)),
                agreement=max(counts) / sum(counts),
                n_paths=sum(counts),
                entropy=entropy(probs),
                label_mass=sum(masses) / len(masses) if masses else 0.0,
                method=name,
                teacher_digest="+".join([*origins, origin]),
                task_digest=task_digest,
            )
        )
    return found_rows
