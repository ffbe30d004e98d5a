"""Compare all methods on the same stored paths: label shares, scores on gold, agreement, cost.

Axes: N texts, P paths, V prompt variants, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score, Scores
from potstill.labeler.aggregation.config import METHODS, UNCALIBRATED, DeriveConfig, check_derive
from potstill.labeler.aggregation.narrowing_figures import NarrowingRow, narrowing_row
from potstill.labeler.aggregation.notes import label_warnings
from potstill.labeler.aggregation.other_texts.surroundings import Surroundings, settled, surroundings
from potstill.labeler.aggregation.path_table import NO_GOLD, PathTable, read_paths
from potstill.labeler.aggregation.soft_labels import (
    Distributions,
    calibrated,
    distributions,
    method_name,
    variant_votes,
    wanted_shares,
)
from potstill.labeler.aggregation.variant_weights import ABSENT, MIN_VARIANTS, variant_weights
from potstill.labeler.store.database import LabelStore, Run, RunSettings


@dataclass(frozen=True)
class MethodRow:
    """Figures of one method."""

    name: str  # as soft labels carry it
    shares: dict[str, float]  # of the texts, by their most probable label
    entropy: float  # mean over the texts, in nats
    scores: Scores | None  # on the gold texts, with 95 % intervals; None without gold


@dataclass(frozen=True)
class VariantRow:
    """Figures of one prompt variant on its own."""

    number: int
    mode: str
    n_texts: int
    n_paths: int
    favourite: str  # the label with the most uncalibrated votes
    favourite_share: float
    weight: float | None  # by agreement, mean over its texts; None with too few variants
    accuracy: Score | None  # calibrated, on its gold texts
    run: int  # whose variant it is: of two teachers, each has its own run


@dataclass(frozen=True)
class CostRow:
    """Cost of one mode's paths of one teacher; it is the same for every method, because all read the same paths."""

    run: int
    mode: str
    n_texts: int
    paths_per_text: float
    prompt_tokens_per_text: float  # after the shared prefix; counted once per variant, however many paths fork the prompt
    generated_tokens_per_text: float


@dataclass(frozen=True)
class Summary:
    """Figures of a run."""

    run: int
    settings: RunSettings
    first_run: int | None  # of a second teacher's run: the run of the first one, whose paths are read too
    first_settings: RunSettings | None
    n_texts: int
    n_paths: int
    n_gold: int
    label_mass: float  # mean over the paths
    methods: list[MethodRow]
    left_out: list[str]  # why a method cannot be used here, one line each
    variants: list[VariantRow]
    agreement: dict[str, int]  # number of texts by the share of paths for the calibrated majority label, in tenths (upper ends)
    cost: list[CostRow]
    narrowing: NarrowingRow | None  # of a task with many labels; None: each text was asked about all
    doubts: list[str]  # warnings, a line each; the JSON output has this name


def summary(store: LabelStore, run: Run, config: DeriveConfig) -> Summary:
    """Apply all methods to one run.

    Args:
        config: every method that takes a prior uses its own; its smoothing and refining add rows; method and weighting are
            ignored.
    Raises:
        UserError: if the run has no paths, or prior or smoothing do not fit the run.
        FormatError: if the store is damaged.
    """
    labels = run.settings.labels
    check_derive(replace(config, method="calibrated", weighting="even"), labels)
    table = read_paths(store, run)
    config, open_end = settled(config, len(table.texts))
    around = surroundings(table.texts, config)
    even = replace(config, method="calibrated", weighting="even", smooth=0, refine="off")
    known = calibrated(table, wanted_shares(table, even, labels))  # once: every method that calibrates takes this prior
    rows, left_out = [], [open_end] if open_end else []
    for wanted in _wanted(table, config):
        try:
            check_derive(wanted, labels)
            own = Surroundings(
                around.vectors if wanted.refine == "on" else None, around.near if wanted.smooth else None, around.guessed
            )
            found = distributions(table, run.settings, wanted, own, known)
        except UserError as error:
            left_out.append(str(error))
            continue
        rows.append(_method_row(table, found, method_name(wanted, run.settings), labels))
    first = store.first_run(run)
    votes = distributions(table, run.settings, even, known=known).votes
    return Summary(
        run=run.number,
        settings=run.settings,
        first_run=first.number if first else None,
        first_settings=first.settings if first else None,
        n_texts=len(table.texts),
        n_paths=len(table.owners),
        n_gold=int(np.sum(table.gold != NO_GOLD)),
        label_mass=float(table.mass.mean()),
        methods=rows,
        left_out=left_out,
        variants=_variant_rows(table, run.settings, known),
        agreement=_agreement(votes, table.n_paths),
        cost=_cost_rows(table),
        narrowing=narrowing_row(table, run.settings, known),
        doubts=label_warnings(table, run.settings, even),
    )


def _wanted(table: PathTable, config: DeriveConfig) -> Iterator[DeriveConfig]:
    """The configurations to compare: each method, then weights by agreement, then smoothing and refining if wanted."""
    plain = replace(config, weighting="even", smooth=0, refine="off")
    has_gold = bool((table.gold != NO_GOLD).any())
    usable = [name for name in METHODS if has_gold or name != "affine"]
    for method in usable:
        yield replace(plain, method=method, prior=None if method in UNCALIBRATED else config.prior)  # type: ignore[arg-type]
    if len(np.unique(table.variants)) >= MIN_VARIANTS:
        yield replace(plain, method="calibrated", weighting="agreement")
    if config.smooth:
        for method in ("calibrated", "matched", "affine"):
            if method in usable and (method != "matched" or config.prior):
                yield replace(plain, method=method, smooth=config.smooth)  # type: ignore[arg-type]
    if config.refine == "on":
        for method in ("calibrated", "matched", "affine"):
            if method in usable and (method != "matched" or config.prior):
                yield replace(plain, method=method, refine="on")  # type: ignore[arg-type]


def _method_row(table: PathTable, found: Distributions, name: str, labels: list[str]) -> MethodRow:
    """Shares and scores of one method."""
    probs = found.probs
    shares = np.bincount(probs.argmax(axis=1), minlength=len(labels)) / len(probs)
    entropies = -np.sum(probs * np.log(np.where(probs > 0, probs, 1)), axis=1)
    known = table.gold != NO_GOLD
    scores = metrics.scores(probs[known], table.gold[known]) if known.any() else None
    return MethodRow(name, dict(zip(labels, shares.tolist(), strict=True)), float(entropies.mean()), scores)


def _variant_rows(table: PathTable, settings: RunSettings, known: NDArray[np.float64]) -> list[VariantRow]:
    """Each variant's favourite label, weight and accuracy. Args: known, the calibrated paths, float [P, C]."""
    votes = variant_votes(table, known)  # [N, V]
    weights = variant_weights(votes, len(settings.labels)) if votes.shape[1] >= MIN_VARIANTS else None
    rows = []
    for column, variant in enumerate(np.unique(table.variants).tolist()):
        own, asked = table.variants == variant, votes[:, column] != ABSENT
        raw = np.bincount(table.logprobs[own].argmax(axis=1), minlength=len(settings.labels)) / own.sum()
        known = asked & (table.gold != NO_GOLD)
        accuracy = None
        if known.any():
            accuracy = metrics.score(metrics.accuracy, np.eye(len(settings.labels))[votes[known, column]], table.gold[known])
        rows.append(
            VariantRow(
                number=variant,
                mode=table.origins[variant].mode,
                n_texts=int(asked.sum()),
                n_paths=int(own.sum()),
                favourite=settings.labels[int(raw.argmax())],
                favourite_share=float(raw.max()),
                weight=None if weights is None else float(weights[asked, column].mean()),
                accuracy=accuracy,
                run=table.origins[variant].run,
            )
        )
    return rows


def _agreement(votes: NDArray[np.int64], n_paths: NDArray[np.int64]) -> dict[str, int]:
    """Number of texts by agreement: `0.7` counts those above 0.6 and up to 0.7. Args: int [N, C]; int [N]."""
    tenths = np.ceil(votes.max(axis=1) * 10 / n_paths - 1e-9).astype(int)
    return {f"{tenth / 10:.1f}": int(np.sum(tenths == tenth)) for tenth in range(int(tenths.min()), 11)}


def _cost_rows(table: PathTable) -> list[CostRow]:
    """Mean paths and tokens per text, by teacher and mode."""
    kinds = {variant: (origin.run, origin.mode) for variant, origin in table.origins.items()}
    variants, columns = np.unique(table.variants, return_inverse=True)
    rows = []
    for run, mode in dict.fromkeys(kinds.values()):
        own = np.isin(table.variants, [variant for variant, kind in kinds.items() if kind == (run, mode)])
        n_texts = len(np.unique(table.owners[own]))
        _, first = np.unique(table.owners[own] * len(variants) + columns[own], return_index=True)  # one of each text and variant
        rows.append(
            CostRow(
                run=run,
                mode=mode,
                n_texts=n_texts,
                paths_per_text=float(own.sum() / n_texts),
                prompt_tokens_per_text=float(table.n_prompt_tokens[own][first].sum() / n_texts),
                generated_tokens_per_text=float(table.n_generated[own].sum() / n_texts),
            )
        )
    return rows
