"""From stored paths to soft labels: votes, agreement and a distribution per text, derived without a new token.

Axes: N texts, P paths, V prompt variants, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel, entropy
from potstill.labeler.aggregation.calibration import as_sure_as, batch_calibrated, sharpened
from potstill.labeler.aggregation.config import DEFAULTS, UNCALIBRATED, VOTING, DeriveConfig, check_derive, prior_shares
from potstill.labeler.aggregation.gold_calibration import affine, check_gold
from potstill.labeler.aggregation.path_table import UNREADABLE_MASS, PathTable, read_paths
from potstill.labeler.aggregation.smoothing import Neighbours, nearest, smoothed
from potstill.labeler.aggregation.variant_weights import ABSENT, MIN_VARIANTS, variant_weights
from potstill.labeler.store.label_store import LabelStore, Run, RunSettings
from potstill.models.catalog import find_backbone

MAX_UNREADABLE = 0.20  # share of such paths
MIN_VOTES, MAX_VOTES = 0.02, 0.90  # share of the uncalibrated votes that a label may have
MIN_OF_EVEN = 0.2  # with many labels, the lower bound is this part of an even share


def doubts(table: PathTable, settings: RunSettings, config: DeriveConfig) -> list[str]:
    """Lines about where the prior is estimated, label words that do not fit, and a teacher that favours or shuns a label."""
    lines = []
    if config.method not in UNCALIBRATED:
        shares = "even; state known shares with --prior" if config.prior is None else "the stated ones"
        lines.append(
            f"each prompt's preference for single labels is estimated on the {len(table.texts)} texts of this run and taken out "
            f"until the labels' shares are {shares}"
        )
    unreadable = float(np.mean(table.mass < UNREADABLE_MASS))
    if unreadable > MAX_UNREADABLE:
        lines.append(
            f"{unreadable:.0%} of the paths give all label words together a probability below {UNREADABLE_MASS}: "
            f"the words do not fit the teacher; choose others in task.toml (now: {', '.join(settings.words)})"
        )
    n_labels = len(settings.labels)
    votes = np.bincount(table.logprobs.argmax(axis=1), minlength=n_labels) / len(table.logprobs)
    least = min(MIN_VOTES, MIN_OF_EVEN / n_labels)
    odd = [f"{name} {share:.0%}" for name, share in zip(settings.labels, votes, strict=True) if not least <= share <= MAX_VOTES]
    if odd:
        lines.append(f"the teacher is biased (shares of its own votes: {', '.join(odd)}); do not use the methods votes and mean")
    return lines


# Read without a rationale, a calibrated teacher is less sure than it is right; cubing brought log-loss and calibration error on two
# gold sets to their lowest with the embedded teacher, and after a rationale nothing was to be gained (docs/log.md).
SHARPNESS = {"direct": 3.0, "cot": 1.0}
_MIN_SHARE = 1e-6  # a label that hardly occurs among some texts still has a finite logarithm
_TINY = 1e-12


@dataclass(frozen=True)
class Derived:
    """Soft labels, and what is to be said about them."""

    rows: list[SoftLabel]
    doubts: list[str]  # a line each, for a person


@dataclass(frozen=True)
class Distributions:
    """What a method makes of every text."""

    probs: NDArray[np.float64]  # [N, C], rows sum to 1
    votes: NDArray[np.int64]  # [N, C], paths whose favourite each label is


def soft_labels(store: LabelStore, run: Run, config: DeriveConfig = DEFAULTS, ids: Sequence[str] | None = None) -> list[SoftLabel]:
    """One soft label for every text with paths; :func:`derive` also tells its doubts."""
    return derive(store, run, config, ids).rows


def derive(store: LabelStore, run: Run, config: DeriveConfig = DEFAULTS, ids: Sequence[str] | None = None) -> Derived:
    """One soft label for every text with paths, as :func:`distributions` says.

    Args:
        ids: the wanted texts, in the wanted order; None means all, in the order of their ids. Whatever is estimated, from the
            teacher's preferences to the neighbours, is estimated on all texts of the run.
    Raises:
        UserError: if the run holds no path, or cannot be derived from as the configuration asks.
    """
    check_derive(config, run.settings.labels)
    table = read_paths(store, run)
    found = distributions(table, run.settings, config, neighbours(table, config))
    places = {text.id: i for i, text in enumerate(table.texts)}
    wanted = [places[text_id] for text_id in (places if ids is None else ids) if text_id in places]
    n_paths = table.n_paths
    mass = np.clip(np.bincount(table.owners, weights=table.mass) / n_paths, 0, 1)
    name = config.name(adaptive=run.settings.bound > 0)
    rows = [_soft_label(table, found, i, int(n_paths[i]), float(mass[i]), name, run.settings) for i in wanted]
    return Derived(rows, doubts(table, run.settings, config))


def distributions(table: PathTable, settings: RunSettings, config: DeriveConfig, near: Neighbours | None = None) -> Distributions:
    """A distribution over the labels for every text.

    Methods:
        calibrated: probabilities sharpened, calibrated within each prompt variant, then averaged over a text's paths.
        majority: the label with the most calibrated votes gets everything; a tie goes to the more probable one.
        votes: the share of paths that voted for each label, uncalibrated, as in arXiv 2212.11311.
        mean: the exact probabilities, averaged, uncalibrated: the expectation of the vote, without the noise of voting.
        matched: calibrated, and then shifted so that the mean distribution over all texts is exactly the stated prior. The shares
            of the favourites are left alone: to meet those too, texts would have to change label that are no different from others.
        affine: calibrated, then an affine map in log space fitted on the gold texts, across folds.

    Then, in this order: averaging counts variants by their weights; where paths were drawn until a text was decided, the average
    is the posterior mean; neighbours are mixed in, and unless shares of votes were mixed, what the mixing flattened is made as sure
    again as it was; matched and affine map what came of it.

    Args:
        near: from :func:`neighbours`; None does not smooth.
    Raises:
        UserError: if there is too little gold for `affine`, or too few variants to weigh them by agreement.
    """
    if config.method == "affine":
        check_gold(table.gold, settings.labels)
    prior = prior_shares(config, settings.labels)
    raw = config.method in UNCALIBRATED
    tamed = table.logprobs if raw and config.weighting == "even" else calibrated(table, settings, prior)
    per_path = table.logprobs if raw else tamed
    favourites = np.eye(len(settings.labels))[per_path.argmax(axis=1)]  # [P, C]
    weights = path_weights(table, tamed, settings) if config.weighting == "agreement" else np.ones(len(table.owners))
    means = table.per_text(weights[:, None] * np.exp(per_path))  # [N, C], each row sums to the text's paths
    counts = table.per_text(weights[:, None] * favourites) if config.method in VOTING else means
    probs = _winner_takes_all(counts, means) if config.method == "majority" else averaged(counts, adaptive=settings.bound > 0)
    if near is not None:
        mixed = smoothed(probs, near, config.smooth_weight)
        probs = mixed if config.method in VOTING else as_sure_as(mixed, probs)
    if config.method == "matched":
        probs = np.exp(batch_calibrated(np.log(np.clip(probs, _TINY, 1)), prior))
    if config.method == "affine":
        probs = affine(probs, table.gold, [text.id for text in table.texts], settings.labels)
    return Distributions(probs / probs.sum(axis=1, keepdims=True), np.rint(table.per_text(favourites)).astype(np.int64))


def calibrated(table: PathTable, settings: RunSettings, prior: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Log-probabilities [P, C], sharpened and calibrated within each prompt variant: each has habits of its own.

    Variants are taken in the order in which they were asked. One that was asked about all texts is brought to the prior. One that
    was asked about some only (the uncertain texts of a cascade, the undecided ones of an adaptive run) is brought to the mean of
    what the earlier variants make of exactly those texts: their labels are not shared out like everybody's. Within a variant every
    text counts the same, however many paths it took.

    Args:
        prior: float [C], share of each label among all texts; None means even shares.
    """
    prior = prior_shares(DEFAULTS, settings.labels) if prior is None else prior
    n_texts = len(table.texts)
    out = np.empty_like(table.logprobs)
    sums, counts = np.zeros((n_texts, len(prior))), np.zeros(n_texts)  # of the earlier variants, by text
    for variant in np.unique(table.variants):
        rows = np.flatnonzero(table.variants == variant)
        owners = table.owners[rows]
        n_paths = np.bincount(owners, minlength=n_texts)
        asked = n_paths > 0
        target = prior
        if not asked.all() and counts.any():
            known = counts > 0
            expected = np.where(known[:, None], sums / np.where(known, counts, 1)[:, None], prior)  # [N, C]
            target = np.maximum(expected[asked].mean(axis=0), _MIN_SHARE)
            target = target / target.sum()
        evidence = sharpened(table.logprobs[rows], SHARPNESS[settings.mode_of(int(variant))])  # first: it would sharpen the prior
        out[rows] = batch_calibrated(evidence, target, 1 / n_paths[owners])
        np.add.at(sums, owners, np.exp(out[rows]))
        counts += n_paths
    return out


def path_weights(table: PathTable, logprobs: NDArray[np.float64], settings: RunSettings) -> NDArray[np.float64]:
    """What each path counts, float [P], from the agreement of the variants; the mean over a text's paths is 1.

    Args:
        logprobs: calibrated, float [P, C].
    Raises:
        UserError: if the run has fewer than 3 variants.
    """
    variants, columns = np.unique(table.variants, return_inverse=True)
    if len(variants) < MIN_VARIANTS:
        raise UserError(
            f"weighting agreement needs at least {MIN_VARIANTS} prompt variants, and the run has {len(variants)}; use even"
        )
    weights = variant_weights(variant_votes(table, logprobs), len(settings.labels))[table.owners, columns]  # [P]
    total = np.bincount(table.owners, weights=weights)
    return np.asarray(weights * (table.n_paths / total)[table.owners])


def variant_votes(table: PathTable, logprobs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Favourite of each variant for each text, int [N, V] with the variants in rising order; ABSENT where it was not asked."""
    variants = np.unique(table.variants)
    votes = np.full((len(table.texts), len(variants)), ABSENT)
    for column, variant in enumerate(variants):
        own = table.variants == variant
        sums = table.per_text(np.where(own[:, None], np.exp(logprobs), 0))
        asked = sums.any(axis=1)
        votes[asked, column] = sums[asked].argmax(axis=1)
    return votes


def averaged(counts: NDArray[np.float64], *, adaptive: bool) -> NDArray[np.float64]:
    """Shares of the counts; in an adaptive run the posterior mean of a Dirichlet prior.

    A text whose first paths agree gets no more of them, so that bare shares would be 1 more often than they ought. The prior is the
    symmetric one with alpha = 1 / C (Perks 1947): as much as one path that says nothing, however many labels there are.

    Args:
        counts: float [N, C], votes or sums of probabilities; each row sums to the number of paths.
    Returns:
        float [N, C], rows sum to 1.
    """
    alpha = 1 / counts.shape[1] if adaptive else 0.0
    total = counts.sum(axis=1, keepdims=True)
    return np.asarray((counts + alpha) / (total + counts.shape[1] * alpha))


def neighbours(table: PathTable, config: DeriveConfig) -> Neighbours | None:
    """The nearest texts that smoothing needs, or None where it is off. This reads all texts with the backbone."""
    if not config.smooth:
        return None
    if config.smooth >= len(table.texts):
        most = len(table.texts) - 1
        raise UserError(f"smooth is {config.smooth} neighbours, and the run has {most + 1} texts; ask for at most {most}")
    from potstill.labeler.embeddings import embeddings  # torch is loaded only here

    return nearest(embeddings(table.texts, find_backbone(config.backbone).path), config.smooth)


def _winner_takes_all(counts: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the label with the largest count, of equals the one with the larger mean; float [N, C]."""
    leads = counts >= counts.max(axis=1, keepdims=True) - _TINY * 1e3
    return np.asarray(np.eye(counts.shape[1])[np.where(leads, means, -1).argmax(axis=1)])


def _soft_label(
    table: PathTable, found: Distributions, row: int, n_paths: int, mass: float, method: str, settings: RunSettings
) -> SoftLabel:
    """One text's soft label."""
    text, probs, votes = table.texts[row], found.probs[row].tolist(), found.votes[row].tolist()
    return SoftLabel(
        id=text.id,
        text=text.text,
        target=text.target,
        gold=text.gold,
        probs=dict(zip(settings.labels, probs, strict=True)),
        votes=dict(zip(settings.labels, votes, strict=True)),
        agreement=max(votes) / n_paths,
        n_paths=n_paths,
        entropy=entropy(probs),
        label_mass=mass,
        method=method,
        teacher_digest=settings.teacher_digest,
        task_digest=settings.task_digest,
    )
