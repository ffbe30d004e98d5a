"""Ways to label side by side: each made of stored paths, and scored on the same gold texts.

Axes: N gold texts, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.scores.metrics import N_RESAMPLES, macro_f1
from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig
from potstill.labeler.aggregation.path_table import NO_GOLD, path_table
from potstill.labeler.aggregation.soft_labels import distributions, neighbours
from potstill.labeler.config import LabelConfig
from potstill.labeler.store.label_store import LabelStore, Run
from potstill.labeler.teacher import TeacherPath, token_cost
from potstill.labeler.tuning.candidates import prompt_name, way_name
from potstill.labeler.tuning.gold_split import GoldHalves

AS_CHEAP = 1.1  # times the lowest cost


@dataclass(frozen=True)
class Trial:
    """A row of the comparison."""

    group: str  # what is compared where it was tried
    name: str
    config: LabelConfig
    derive: DeriveConfig
    run: Run  # that the paths are of, or would be
    paths: Sequence[TeacherPath]
    probs: NDArray[np.float64]  # [N, C], rows sum to 1; NaN for a text that does not fit into the teacher's context
    seconds: float | None  # of a text, estimated from its run; None where that was not timed

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Whether each text has a distribution, bool [N]."""
        return ~np.isnan(self.probs[:, 0])

    @property
    def n_paths(self) -> float:
        """Paths of a text, on average."""
        return len(self.paths) / int(self.answered.sum())

    @property
    def cost(self) -> float:
        """Token cost of a text, on average."""
        return token_cost(self.paths) / int(self.answered.sum())


@dataclass(frozen=True)
class TuningChoice:
    """What the choosing half says."""

    winner: Trial
    best: Trial  # highest macro-F1, whatever it costs
    scores: list[float]  # [R], macro-F1 of every trial


def choose(trials: Sequence[Trial], gold: NDArray[np.int64], rows: NDArray[np.bool_]) -> TuningChoice:
    """The cheapest of the trials that do as well as the best one; of equally cheap ones the better.

    As well means: behind in macro-F1 by no more than one standard error of the difference, measured on the same resampled texts.
    This is the rule of one standard error (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3) for scores that
    go together.

    Args:
        trials: at least one.
        gold: int [N].
        rows: bool [N], the texts that choose, at least one; every trial has answered them.
    """
    all_probs, wanted = [trial.probs[rows] for trial in trials], gold[rows]
    scores = [macro_f1(probs, wanted) for probs in all_probs]
    best = int(np.argmax(scores))
    resampled = _resampled(all_probs, wanted)  # [R, resamples]
    errors = (resampled[best] - resampled).std(axis=1)  # [R]
    level = [i for i, score in enumerate(scores) if scores[best] - score <= errors[i]]
    dearest = AS_CHEAP * min(trials[i].cost for i in level)
    winner = max((i for i in level if trials[i].cost <= dearest), key=lambda i: scores[i])  # of equals the first
    return TuningChoice(trials[winner], trials[best], scores)


def _resampled(all_probs: Sequence[NDArray[np.float64]], gold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Macro-F1 of every trial on the same bootstrap samples of the texts, float [R, resamples]."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(gold), len(gold)) for _ in range(N_RESAMPLES)]
    return np.array([[macro_f1(probs[draw], gold[draw]) for draw in draws] for probs in all_probs])


MAX_UNANSWERED = 0.1  # share of the texts; a way to label that leaves out more is no candidate


class TrialComparison:
    """The trials so far."""

    def __init__(self, store_path: Path, halves: GoldHalves) -> None:
        """Start with none. Args: store_path, of the store that holds the runs."""
        self._store_path, self._halves = store_path, halves
        self._place = {text.id: i for i, text in enumerate(halves.texts)}
        self.trials: list[Trial] = []
        self.left_out: list[str] = []  # a line for each way to label that is no candidate

    @property
    def answered(self) -> NDArray[np.bool_]:
        """The texts that every trial answered, bool [N]."""
        return np.asarray(np.all([trial.answered for trial in self.trials], axis=0))

    def choice(self) -> TuningChoice:
        """Of all trials so far, by the half that chooses.

        Raises:
            UserError: if there is none.
        """
        if not self.trials:
            raise UserError(f"nothing can be compared: {'; '.join(self.left_out)}")
        return choose(self.trials, self._halves.gold, self._halves.chooses & self.answered)

    def add(
        self, group: str, name: str, config: LabelConfig, run: Run, paths: Sequence[TeacherPath], seconds: float | None
    ) -> None:
        """A way to label, its soft labels derived in the usual way, unless too many texts did not fit.

        Args:
            seconds: of all gold texts.
        """
        n_texts = len(self._halves.texts)
        n_missing = n_texts - len({path.text_id for path in paths})
        if n_missing > MAX_UNANSWERED * n_texts:
            self.left_out.append(f"{name}: {n_missing} of {n_texts} texts do not fit into the teacher's context")
            return
        per_text = None if seconds is None else seconds / (n_texts - n_missing)
        probs = self._probs(run, paths, DEFAULTS)
        self.trials.append(Trial(group, name, config, DEFAULTS, run, paths, probs, per_text))

    def add_derived(self, trial: Trial, derive: DeriveConfig) -> None:
        """A trial's paths once more, their soft labels derived in another way, unless that is not possible."""
        otherwise = derive.name(adaptive=False).removeprefix(f"{DEFAULTS.method}+").partition("@")[0]
        name, group = f"{way_name(trial.config)}, {otherwise}", f"soft labels, {prompt_name(trial.config)}"
        try:
            probs = self._probs(trial.run, trial.paths, derive)
        except UserError as error:
            self.left_out.append(f"{name}: {error}")
            return
        self.trials.append(replace(trial, group=group, name=name, derive=derive, probs=probs))

    def _probs(self, run: Run, paths: Sequence[TeacherPath], derive: DeriveConfig) -> NDArray[np.float64]:
        """The distribution of every gold text, float [N, C]; no gold label of the half that judges is looked at."""
        with LabelStore.read(self._store_path) as store:
            table = path_table(store, run, paths)
        rows = [self._place[text.id] for text in table.texts]
        table = replace(table, gold=np.where(self._halves.chooses[rows], self._halves.gold[rows], NO_GOLD))
        probs = np.full((len(self._place), len(run.settings.labels)), np.nan)
        probs[rows] = distributions(table, run.settings, derive, neighbours(table, derive)).probs
        return probs
