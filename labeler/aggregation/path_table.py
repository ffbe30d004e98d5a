"""All paths of a run as arrays, with the texts they belong to; where a second teacher was asked, the paths of both.

Axes: N texts, P paths, W label words, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from potstill.contract.errors import FormatError, UserError
from potstill.contract.texts import Text
from potstill.labeler.aggregation.narrowed import per_letter, with_rest
from potstill.labeler.store.database import LabelStore, PathColumns, Run, RunSettings
from potstill.labeler.store.questions import own_gold
from potstill.labeler.teacher import TeacherPath

NO_GOLD = -1
UNREADABLE_MASS = 0.05  # a path whose label words have less probability than this in total said something else


@dataclass(frozen=True)
class VariantOrigin:
    """Whose prompt variant it is, and how it was asked."""

    run: int  # number of the teacher's run
    teacher: str
    mode: str  # `direct` or `cot`


@dataclass(frozen=True)
class PathTable:
    """Paths and their texts; every text has at least one path."""

    texts: list[Text]  # [N], in the order of their first paths
    gold: NDArray[np.int64]  # [N], index of the gold label, or NO_GOLD
    owners: NDArray[np.int64]  # [P], index of each path's text
    variants: NDArray[np.int64]  # [P]
    logprobs: NDArray[np.float64]  # [P, C], normalised over the labels; among candidates per letter, the others as before
    mass: NDArray[np.float64]  # [P], total probability of all label words, 0 to 1
    n_prompt_tokens: NDArray[np.int64]  # [P], after the shared prefix
    n_generated: NDArray[np.int64]  # [P]
    origins: Mapping[int, VariantOrigin]  # by variant; those of a second teacher are numbered after those of the first
    asked: NDArray[np.bool_] | None = None  # [P, C], whether a path was asked about a label; None: about all
    log_prior: NDArray[np.float64] | None = None  # [N, C], nats, before the teacher was asked; where it was asked among candidates

    @property
    def n_paths(self) -> NDArray[np.int64]:
        """Number of paths of each text, int [N], at least 1."""
        return np.bincount(self.owners, minlength=len(self.texts))

    @property
    def runs(self) -> NDArray[np.int64]:
        """Number of the run that each path is from, int [P]; they rise in the order in which the teachers were asked."""
        order, places = np.unique(self.variants, return_inverse=True)
        return np.array([self.origins[int(variant)].run for variant in order])[places]

    def of_texts(self, rows: NDArray[np.int64]) -> PathTable:
        """The texts of these rows alone, with their paths. Args: int [n], rising."""
        kept = np.zeros(len(self.texts), dtype=bool)
        kept[rows] = True
        part = self._of_paths(kept[self.owners])
        places = np.cumsum(kept) - 1
        log_prior = None if self.log_prior is None else self.log_prior[kept]
        texts = [text for text, keep in zip(self.texts, kept, strict=True) if keep]
        return replace(part, texts=texts, gold=self.gold[kept], owners=places[part.owners], log_prior=log_prior)

    def first_paths(self, n: int | NDArray[np.int64]) -> PathTable:
        """All texts with at most n paths each, the first ones. Args: n, at least 1; of all texts, or int [N] of each."""
        order = np.argsort(self.owners, kind="stable")
        starts = np.concatenate([[0], np.cumsum(self.n_paths)[:-1]])
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(len(order)) - starts[self.owners[order]]
        return self._of_paths(ranks < np.broadcast_to(n, len(self.texts))[self.owners])

    def of_variant(self, variant: int) -> PathTable:
        """The paths of one prompt variant, in which every text must have one."""
        return self._of_paths(self.variants == variant)

    def _of_paths(self, kept: NDArray[np.bool_]) -> PathTable:
        """All texts with some of their paths. Args: bool [P]."""
        return replace(
            self,
            owners=self.owners[kept],
            variants=self.variants[kept],
            logprobs=self.logprobs[kept],
            mass=self.mass[kept],
            n_prompt_tokens=self.n_prompt_tokens[kept],
            n_generated=self.n_generated[kept],
            asked=None if self.asked is None else self.asked[kept],
        )

    def per_text(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over each text's paths. Args: float [P, C]. Returns: float [N, C]."""
        columns = [np.bincount(self.owners, weights=column, minlength=len(self.texts)) for column in values.T]
        return np.stack(columns, axis=1)


def read_paths(store: LabelStore, run: Run) -> PathTable:
    """Read every path of the run, and for the run of a second teacher those of the first one, too.

    Raises:
        UserError: if the run has no paths.
        FormatError: as :func:`path_table` does.
    """
    columns, first = store.path_columns(run), store.first_run(run)
    if not columns.text_ids and first is None:
        raise UserError(f"{store.path}: holds no path of this run yet; run: potstill label")
    if first is None:
        return _table(store, run, columns)
    offset = first.settings.n_variants
    later = [variant + offset for variant in columns.variants]
    table = _table(store, first, store.path_columns(first).followed_by(columns, later))
    own = {variant: origin for variant, origin in table.origins.items() if variant < offset}
    return replace(table, origins=own | _origins(run, set(later), offset))


def path_table(store: LabelStore, run: Run, paths: Sequence[TeacherPath]) -> PathTable:
    """Arrange paths as arrays.

    Args:
        paths: of the run, at least one.
    Raises:
        FormatError: if the store is damaged, or a text's gold label is not among the run's labels.
    """
    rows = ((p.text_id, p.variant, p.word_logprobs, p.n_prompt_tokens, p.n_generated) for p in paths)
    return _table(store, run, PathColumns(*zip(*rows, strict=True)))


def _table(store: LabelStore, run: Run, columns: PathColumns) -> PathTable:
    """Arrange columns of the store as arrays, with the texts that they belong to."""
    stored = store.texts()
    index = {text_id: i for i, text_id in enumerate(dict.fromkeys(columns.text_ids))}
    for text_id in index:
        if text_id not in stored:
            raise FormatError(store.path, "", f"has paths of an unknown text {text_id!r}; look with: potstill labels check")
    texts = [stored[text_id] for text_id in index]
    words, settings = np.array(columns.word_logprobs, dtype=np.float64), run.settings
    logprobs = label_logprobs(words, settings.word_labels, len(settings.labels))
    owners = np.array([index[text_id] for text_id in columns.text_ids])
    asked = log_prior = None
    known = log_softmax(logprobs, axis=1)
    if settings.candidates:
        asked, log_prior = np.isfinite(logprobs), _log_prior(store, run, list(index))
        fair = label_logprobs(per_letter(words, settings.words), settings.word_labels, len(settings.labels))
        known = with_rest(log_softmax(fair, axis=1), log_prior[owners])
    return PathTable(
        texts=texts,
        gold=np.array([_gold(store, run, text) for text in texts]),
        owners=owners,
        variants=np.array(columns.variants),
        logprobs=np.asarray(known),
        mass=np.exp(logsumexp(logprobs, axis=1)),
        n_prompt_tokens=np.array(columns.n_prompt_tokens),
        n_generated=np.array(columns.n_generated),
        origins=_origins(run, set(columns.variants)),
        asked=asked,
        log_prior=log_prior,
    )


def _log_prior(store: LabelStore, run: Run, text_ids: Sequence[str]) -> NDArray[np.float64]:
    """What was believed of each text before the teacher was asked, float [N, C]; raises FormatError if a text's is missing."""
    found = store.candidates(run)
    for text_id in text_ids:
        if text_id not in found:
            raise FormatError(store.path, f"text {text_id!r}", "has paths and no candidates; look with: potstill labels check")
    return np.array([found[text_id].log_prior for text_id in text_ids], dtype=np.float64)


def _origins(run: Run, variants: set[int], offset: int = 0) -> dict[int, VariantOrigin]:
    """Where these variants come from: the run's own, numbered from ``offset`` on."""
    settings = run.settings
    return {v: VariantOrigin(run.number, settings.teacher, settings.mode_of(v - offset)) for v in sorted(variants)}


def path_logprobs(paths: Sequence[TeacherPath], settings: RunSettings) -> NDArray[np.float64]:
    """Log-probability (nats) of every label, summed over its words, float [P, C]; not normalised. Args: paths, at least one."""
    words = np.array([path.word_logprobs for path in paths], dtype=np.float64)
    return label_logprobs(words, settings.word_labels, len(settings.labels))


def label_logprobs(word_logprobs: NDArray[np.float64], word_labels: Sequence[int], n_labels: int) -> NDArray[np.float64]:
    """Log-probability (nats) of each label: the sum over its words.

    Args:
        word_logprobs: float [P, W], of W label words.
        word_labels: label index of each word.
    Returns:
        float [P, C], not normalised over the labels.
    """
    return np.stack(
        [logsumexp(word_logprobs[:, [w for w, k in enumerate(word_labels) if k == label]], axis=1) for label in range(n_labels)],
        axis=1,
    )


def _gold(store: LabelStore, run: Run, text: Text) -> int:
    """Index of the text's gold label."""
    gold = own_gold(store.path, run.settings, text)
    if gold is None:
        return NO_GOLD
    if gold not in run.settings.labels:
        allowed = ", ".join(run.settings.labels)
        raise FormatError(store.path, f"text {text.id!r}", f"gold {gold!r} is not a label of run {run.number}; it has {allowed}")
    return run.settings.labels.index(gold)
