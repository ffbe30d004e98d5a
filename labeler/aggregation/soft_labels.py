"""Derive soft labels from stored paths: votes, agreement and a distribution per text, without a new token.

Axes: N texts, P paths, V prompt variants, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel, entropy
from potstill.labeler.aggregation.calibration import as_sure_as, batch_calibrated, prior_shares, sharpened
from potstill.labeler.aggregation.config import DEFAULTS, UNCALIBRATED, VOTING, DeriveConfig, check_derive
from potstill.labeler.aggregation.gold_calibration import affine, check_gold
from potstill.labeler.aggregation.narrowed import brought_to, posterior
from potstill.labeler.aggregation.notes import label_warnings, refining_note
from potstill.labeler.aggregation.other_texts.gold_check import GoldCheck, checked
from potstill.labeler.aggregation.other_texts.smoothing import smoothed
from potstill.labeler.aggregation.other_texts.surroundings import NOTHING, Surroundings, TextSpace, settled, surroundings
from potstill.labeler.aggregation.other_texts.text_prior import refined
from potstill.labeler.aggregation.path_table import NO_GOLD, PathTable, read_paths
from potstill.labeler.aggregation.variant_weights import ABSENT, MIN_VARIANTS, variant_weights
from potstill.labeler.store.database import LabelStore, Run, RunSettings

# Without a rationale, a calibrated teacher is underconfident; cubing gave the lowest log-loss and calibration error on two gold
# sets with the embedded teacher. After a rationale nothing was gained by it (docs/log.md).
SHARPNESS = {"direct": 3.0, "cot": 1.0}
SHARE_ROUNDS = 2  # of estimating the labels' shares before they are used; more changed little (docs/log.md)
_MIN_SHARE = 1e-6  # keeps the logarithm finite for a label that hardly occurs among some texts
_TINY = 1e-12


@dataclass(frozen=True)
class Derived:
    """Soft labels, with notes and warnings about them."""

    rows: list[SoftLabel]
    warnings: list[str]  # one line each, for a person


@dataclass(frozen=True)
class Distributions:
    """The result of a method for every text."""

    probs: NDArray[np.float64]  # [N, C], rows sum to 1
    votes: NDArray[np.int64]  # [N, C], number of paths whose most probable label this is
    check: GoldCheck | None = None  # what gold says about refining, where it was asked


def soft_labels(store: LabelStore, run: Run, config: DeriveConfig = DEFAULTS, ids: Sequence[str] | None = None) -> list[SoftLabel]:
    """The soft labels of :func:`derive`, without its warnings."""
    return derive(store, run, config, ids).rows


def derive(
    store: LabelStore,
    run: Run,
    config: DeriveConfig = DEFAULTS,
    ids: Sequence[str] | None = None,
    space: TextSpace | None = None,
    *,
    guessed: bool = False,
) -> Derived:
    """Derive one soft label for every text with paths, as :func:`distributions` describes.

    Args:
        ids: the wanted texts, in the wanted order; None means all, ordered by id. Estimates, such as the teacher's preferences and
            the neighbours, always use all texts of the run.
        space: where embeddings of the texts are kept; None: they are not.
        guessed: whether the configuration's prior is a guess, too.
    Raises:
        UserError: if the run has no paths, or the configuration does not fit the run.
    """
    check_derive(config, run.settings.labels)
    table = read_paths(store, run)
    asks_gold = config.refine == "auto" and 0 < config.refine_gold <= np.sum(table.gold != NO_GOLD)
    config, left_out = settled(config, len(table.texts))
    around = surroundings(table.texts, config, space)
    around = replace(around, guessed=guessed or around.guessed, asks_gold=bool(asks_gold))
    found = distributions(table, run.settings, config, around)
    places = {text.id: i for i, text in enumerate(table.texts)}
    wanted = [places[text_id] for text_id in (places if ids is None else ids) if text_id in places]
    n_paths = table.n_paths
    mass = np.clip(np.bincount(table.owners, weights=table.mass) / n_paths, 0, 1)
    names = _method_names(table, config, run, found.check)
    digest = teachers_digest(run, store.first_run(run))
    rows = [_soft_label(table, found, i, float(mass[i]), names[i], digest, run.settings) for i in wanted]
    notes = label_warnings(table, run.settings, config)
    if around.vectors is not None:
        shares = dict(zip(run.settings.labels, found.probs.mean(axis=0).tolist(), strict=True)) if around.guessed else {}
        notes.append(refining_note(shares, found.check))
    return Derived(rows, [*notes, *([left_out] if left_out else [])])


def teachers_digest(run: Run, first: Run | None) -> str:
    """Digest of the teacher whose paths the soft labels of a run come from; of two, both, joined by a plus in the order asked."""
    own = run.settings.teacher_digest
    return own if first is None else f"{first.settings.teacher_digest}+{own}"


def method_name(config: DeriveConfig, settings: RunSettings) -> str:
    """The method as soft labels carry it; `+among10` where each text was asked among 10 candidates."""
    name = config.name(adaptive=settings.bound > 0)
    return f"{name}+among{settings.candidates}" if settings.candidates else name


def _method_names(table: PathTable, config: DeriveConfig, run: Run, check: GoldCheck | None) -> list[str]:
    """The method name of every text's soft label, [N]; `+then` follows where a second teacher was asked."""
    name, plain = (method_name(own, run.settings) for own in (config, replace(config, refine="off")))
    names = [name] * len(table.texts) if check is None else [name if refined else plain for refined in check.refined]
    if not run.settings.after:
        return names
    asked = np.bincount(table.owners, weights=table.runs == run.number, minlength=len(table.texts)) > 0
    return [f"{name}+then" if both else name for name, both in zip(names, asked, strict=True)]


def distributions(
    table: PathTable,
    settings: RunSettings,
    config: DeriveConfig,
    around: Surroundings = NOTHING,
    known: NDArray[np.float64] | None = None,
) -> Distributions:
    """Compute a distribution over the labels for every text.

    Methods:
        calibrated: probabilities sharpened, calibrated within each prompt variant, then averaged over a text's paths.
        majority: probability 1 for the label with the most calibrated votes; a tie goes to the more probable label.
        votes: the share of paths that voted for each label, uncalibrated, as in arXiv 2212.11311.
        mean: the exact probabilities, averaged, uncalibrated: the expected vote, without the noise of voting.
        matched: calibrated, then shifted so that the mean distribution over all texts is exactly the stated prior. The shares of
            the most probable labels are not matched: that would give different labels to texts that do not differ.
        affine: calibrated, then an affine map in log space fitted on the gold texts, with cross-fitting.

    Then, in this order: averaging uses the variants' weights, or lets every teacher of a text count the same; where paths were
    drawn until a text was decided, the average is a posterior mean; neighbours are mixed in, and the mixture is sharpened to its
    earlier entropy, unless votes were mixed; what all other texts say is taken as a prior; `matched` and `affine` map the result.
    Where gold may decide against the other texts, both results are mapped, and compared.

    Args:
        around: the embeddings to refine by, and the neighbours to smooth by, as far as that is wanted.
        known: the paths calibrated to the configuration's prior, from :func:`calibrated`; None means to calibrate them here.
    Raises:
        UserError: if there is too little gold for `affine`, or there are too few variants to weigh by agreement.
    """
    if config.method == "affine":
        check_gold(table.gold)
    prior = wanted_shares(table, config, settings.labels)
    raw = config.method in UNCALIBRATED
    if raw and config.weighting == "even":
        tamed = table.logprobs
    else:
        tamed = calibrated(table, prior) if known is None else known
    probs, votes = _mixed(table, settings, config, around, tamed)
    ids = [text.id for text in table.texts]
    finish = partial(_finished, config, prior, ids)
    if around.vectors is None:
        return Distributions(finish(probs, table.gold), votes)
    refined_probs = _refined(table, settings, config, around, probs)
    if not around.asks_gold:
        return Distributions(finish(refined_probs, table.gold), votes)
    check = checked(probs, refined_probs, table.gold, ids, finish)
    return Distributions(check.probs, votes, check)


def _finished(
    config: DeriveConfig,
    prior: NDArray[np.float64] | None,
    ids: Sequence[str],
    probs: NDArray[np.float64],
    gold: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The last step of a method, float [N, C], rows sum to 1. Args: prior, float [C]; ids, [N]; float [N, C]; int [N]."""
    if config.method == "matched":
        probs = np.exp(batch_calibrated(np.log(np.clip(probs, _TINY, 1)), prior))
    if config.method == "affine":
        probs = affine(probs, gold, ids)
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def _mixed(
    table: PathTable, settings: RunSettings, config: DeriveConfig, around: Surroundings, tamed: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What a text's paths, and its neighbours', come to: float [N, C], and votes, int [N, C]. Args: tamed, from `calibrated`."""
    per_path = table.logprobs if config.method in UNCALIBRATED else tamed
    favourites = np.eye(len(settings.labels))[per_path.argmax(axis=1)]  # [P, C]
    weights = path_weights(table, tamed, settings) if config.weighting == "agreement" else teacher_weights(table)
    means = table.per_text(weights[:, None] * np.exp(per_path))  # [N, C], each row sums to the text's paths
    counts = table.per_text(weights[:, None] * favourites) if config.method in VOTING else means
    probs = _winner_takes_all(counts, means) if config.method == "majority" else averaged(counts, adaptive=settings.bound > 0)
    if around.near is not None:
        mixed = smoothed(probs, around.near, config.smooth_weight)
        probs = mixed if config.method in VOTING else as_sure_as(mixed, probs)
    return probs, np.rint(table.per_text(favourites)).astype(np.int64)


def _refined(
    table: PathTable, settings: RunSettings, config: DeriveConfig, around: Surroundings, probs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The distributions with what all other texts say as a prior, float [N, C].

    Where the labels' shares are a guess, they are estimated in turn with the labels: calibrated to wrong shares, labels are wrong.
    """
    if around.vectors is None:
        return probs
    if table.log_prior is not None:
        return refined(probs, table.log_prior, around.vectors, table.texts)
    shares = prior_shares(config, settings.labels)
    for _ in range(SHARE_ROUNDS if around.guessed else 0):
        shares = refined(probs, np.log(shares), around.vectors, table.texts).mean(axis=0)
        probs, _ = _mixed(table, settings, config, around, calibrated(table, shares))
    found = refined(probs, np.log(shares), around.vectors, table.texts)
    return found if around.guessed else np.exp(batch_calibrated(np.log(np.clip(found, _TINY, 1)), shares))


def wanted_shares(table: PathTable, config: DeriveConfig, labels: Sequence[str]) -> NDArray[np.float64] | None:
    """The prior of a configuration, float [C]; None where texts have candidates and none is stated: even shares are a guess."""
    return None if table.asked is not None and config.prior is None else prior_shares(config, labels)


def calibrated(table: PathTable, prior: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Sharpen the paths and calibrate them within each prompt variant, because each variant prefers labels in its own way.

    Variants are calibrated in the order in which they were asked. A variant that was asked about all texts is brought to the prior.
    One that was asked only about some (the uncertain texts of a cascade or of a second teacher, the undecided ones of an adaptive
    run) is brought to the mean that the earlier variants give for exactly those texts, whose label shares differ. Within a variant
    every text has the same weight, however many paths it has. Paths that were asked among candidates are combined with what was
    believed before, as `aggregation/narrowed.py` says.

    Args:
        prior: float [C], share of each label among all texts; None means even shares, as a guess where texts have candidates.
    Returns:
        Log-probabilities (nats), float [P, C], normalised over C.
    """
    n_texts, n_labels = len(table.texts), table.logprobs.shape[1]
    stated = prior is not None
    prior = np.full(n_labels, 1 / n_labels) if prior is None else prior
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
        weights = 1 / n_paths[owners]
        if table.asked is not None and table.log_prior is not None:
            found = posterior(table.logprobs[rows], table.asked[rows], table.log_prior[owners], weights)
            out[rows] = brought_to(found, target, weights, stated=stated or target is not prior)
        else:
            evidence = sharpened(table.logprobs[rows], SHARPNESS[table.origins[int(variant)].mode])  # first, or the prior would be
            out[rows] = batch_calibrated(evidence, target, weights)
        np.add.at(sums, owners, np.exp(out[rows]))
        counts += n_paths
    return out


def teacher_weights(table: PathTable) -> NDArray[np.float64]:
    """The weight of each path, float [P], with which every teacher of a text counts the same; the mean over a text's paths is 1.

    One teacher's paths all have the weight 1. Of two, neither outvotes the other by its number of paths.
    """
    runs, columns = np.unique(table.runs, return_inverse=True)
    if len(runs) == 1:
        return np.ones(len(table.owners))
    n_own = np.zeros((len(table.texts), len(runs)))
    np.add.at(n_own, (table.owners, columns), 1)
    share = table.n_paths / (n_own > 0).sum(axis=1)  # of a text's paths, for each of its teachers
    return np.asarray(share[table.owners] / n_own[table.owners, columns])


def path_weights(table: PathTable, logprobs: NDArray[np.float64], settings: RunSettings) -> NDArray[np.float64]:
    """The weight of each path, float [P], from the agreement of the variants; the mean over a text's paths is 1.

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
    """The most probable label by variant and text, int [N, V], variants in rising order; ABSENT where a variant was not asked."""
    variants = np.unique(table.variants)
    votes = np.full((len(table.texts), len(variants)), ABSENT)
    for column, variant in enumerate(variants):
        own = table.variants == variant
        sums = table.per_text(np.where(own[:, None], np.exp(logprobs), 0))
        asked = sums.any(axis=1)
        votes[asked, column] = sums[asked].argmax(axis=1)
    return votes


def averaged(counts: NDArray[np.float64], *, adaptive: bool) -> NDArray[np.float64]:
    """Shares of the counts; in an adaptive run, the posterior mean under a Dirichlet prior.

    A text whose first paths agree gets no more paths, so plain shares would be 1 too often. The prior is the symmetric one with
    alpha = 1 / C (Perks 1947): worth one path without information, whatever the number of labels.

    Args:
        counts: float [N, C], votes or sums of probabilities; each row sums to the number of paths.
    Returns:
        float [N, C], rows sum to 1.
    """
    alpha = 1 / counts.shape[1] if adaptive else 0.0
    total = counts.sum(axis=1, keepdims=True)
    return np.asarray((counts + alpha) / (total + counts.shape[1] * alpha))


def _winner_takes_all(counts: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the label with the largest count; a tie goes to the larger mean; float [N, C]."""
    leads = counts >= counts.max(axis=1, keepdims=True) - _TINY * 1e3
    return np.asarray(np.eye(counts.shape[1])[np.where(leads, means, -1).argmax(axis=1)])


def _soft_label(
    table: PathTable, found: Distributions, row: int, mass: float, method: str, teacher_digest: str, settings: RunSettings
) -> SoftLabel:
    """One text's soft label."""
    n_paths = int(found.votes[row].sum())
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
        teacher_digest=teacher_digest,
        task_digest=settings.task_digest,
    )
