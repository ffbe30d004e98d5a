"""Compare labelling configurations: each is derived from stored paths, scored on the same gold texts, and has a token cost.

Axes: N gold texts, R trials, C labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.scores.metrics import N_RESAMPLES, macro_f1
from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig
from potstill.labeler.aggregation.other_texts.surroundings import surroundings
from potstill.labeler.aggregation.path_table import NO_GOLD, path_table
from potstill.labeler.aggregation.soft_labels import distributions
from potstill.labeler.config import LabelConfig
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.teacher import TeacherPath
from potstill.labeler.tuning.candidates import paths_name, prompt_name
from potstill.labeler.tuning.gold_split import GoldHalves
from potstill.labeler.tuning.wordings import WordedTask

AS_CHEAP = 1.1  # a cost up to this multiple of the lowest counts as equal
MAX_UNANSWERED = 0.1  # share of the texts that a configuration may leave out
DRAWN_FOR_READ = 2  # tokens that are read in about the time that one is sampled, by a small teacher on two cores


def token_cost(paths: Iterable[TeacherPath]) -> int:
    """Cost of the paths in tokens: prompt tokens after the shared prefixes, plus DRAWN_FOR_READ for each sampled token.

    A prompt is read once, however many paths fork it. Unlike seconds, the cost is the same every time.
    """
    prompts, n_drawn = dict[tuple[str, int], int](), 0
    for path in paths:
        prompts[path.text_id, path.variant] = path.n_prompt_tokens
        n_drawn += path.n_generated
    return sum(prompts.values()) + DRAWN_FOR_READ * n_drawn


@dataclass(frozen=True)
class Trial:
    """One labelling configuration that was tried."""

    group: str  # heading of the rows it is compared with
    name: str
    config: LabelConfig
    derive: DeriveConfig
    run: Run  # with the settings that such paths would have
    paths: Sequence[TeacherPath]
    probs: NDArray[np.float64]  # [N, C], rows sum to 1; NaN for a text that does not fit in the teacher's context
    seconds: float | None  # per text, estimated from its run; None if that was not timed
    wording: WordedTask | None = None  # of the task that was asked; None: the one that was given

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Whether each text has a distribution, bool [N]."""
        return ~np.isnan(self.probs[:, 0])

    @property
    def n_paths(self) -> float:
        """Mean number of paths per text."""
        return len(self.paths) / int(self.answered.sum())

    @property
    def cost(self) -> float:
        """Mean token cost per text."""
        return token_cost(self.paths) / int(self.answered.sum())


@dataclass(frozen=True)
class TuningChoice:
    """The result on the selection half."""

    winner: Trial
    best: Trial  # highest macro-F1, whatever it costs
    scores: list[float]  # [R], macro-F1 of every trial


class TrialComparison:
    """The trials so far, all on the same gold texts."""

    def __init__(self, store_path: Path, halves: GoldHalves) -> None:
        """Start with no trial. Args: store_path, the label store with the runs."""
        self._store_path, self._halves = store_path, halves
        self._place = {text.id: i for i, text in enumerate(halves.texts)}
        self.wording: WordedTask | None = None  # of the trials that are added now
        self.trials: list[Trial] = []
        self.left_out: list[str] = []  # one line for each configuration that could not be tried

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Whether every trial answered a text, bool [N]."""
        return np.asarray(np.all([trial.answered for trial in self.trials], axis=0))

    def choice(self) -> TuningChoice:
        """Choose among all trials, scored on the selection half.

        Raises:
            UserError: if there is no trial.
        """
        if not self.trials:
            raise UserError(f"nothing can be compared: {'; '.join(self.left_out)}")
        return choose(self.trials, self._halves.gold, self._halves.chooses & self.answered)

    def add(
        self, group: str, name: str, config: LabelConfig, run: Run, paths: Sequence[TeacherPath], seconds: float | None
    ) -> None:
        """Add a trial with the default derivation, unless too many texts did not fit in the context.

        Args:
            seconds: for all gold texts; None if not timed.
        """
        n_texts = len(self._halves.texts)
        n_missing = n_texts - len({path.text_id for path in paths})
        if n_missing > MAX_UNANSWERED * n_texts:
            self.left_out.append(f"{name}: {n_missing} of {n_texts} texts do not fit in the teacher's context")
            return
        per_text = None if seconds is None else seconds / (n_texts - n_missing)
        probs = self._probs(run, paths, DEFAULTS)
        self.trials.append(Trial(group, name, config, DEFAULTS, run, paths, probs, per_text, self.wording))

    def add_derived(self, trial: Trial, derive: DeriveConfig) -> None:
        """Add a trial with the same paths and another derivation, unless that is not possible."""
        otherwise = derive.name(adaptive=False).removeprefix(f"{DEFAULTS.method}+").partition("@")[0]
        name, group = f"{paths_name(trial.config)}, {otherwise}", f"soft labels, {prompt_name(trial.config)}"
        try:
            probs = self._probs(trial.run, trial.paths, derive)
        except UserError as error:
            self.left_out.append(f"{name}: {error}")
            return
        self.trials.append(replace(trial, group=group, name=name, derive=derive, probs=probs))

    def _probs(self, run: Run, paths: Sequence[TeacherPath], derive: DeriveConfig) -> NDArray[np.float64]:
        """The distribution of every gold text, float [N, C]; gold labels of the evaluation half are hidden."""
        with LabelStore.read(self._store_path) as store:
            table = path_table(store, run, paths)
        rows = [self._place[text.id] for text in table.texts]
        table = replace(table, gold=np.where(self._halves.chooses[rows], self._halves.gold[rows], NO_GOLD))
        probs = np.full((len(self._place), len(run.settings.labels)), np.nan)
        probs[rows] = distributions(table, run.settings, derive, surroundings(table.texts, derive)).probs
        return probs


def choose(trials: Sequence[Trial], gold: NDArray[np.int64], rows: NDArray[np.bool_]) -> TuningChoice:
    """Choose the cheapest trial that is as good as the best one; among equally cheap ones, the better.

    As good means: behind in macro-F1 by at most one standard error of the difference, measured on the same resampled texts. This is
    the one-standard-error rule (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3) for paired scores.

    Args:
        trials: at least one.
        gold: int [N], index of the gold label.
        rows: bool [N], the selection half; at least one text, and every trial has answered them all.
    """
    all_probs, wanted = [trial.probs[rows] for trial in trials], gold[rows]
    scores = [macro_f1(probs, wanted) for probs in all_probs]
    best = int(np.argmax(scores))
    resampled = _resampled(all_probs, wanted)  # [R, resamples]
    errors = (resampled[best] - resampled).std(axis=1)  # [R]
    level = [i for i, score in enumerate(scores) if scores[best] - score <= errors[i]]
    most_expensive = AS_CHEAP * min(trials[i].cost for i in level)
    winner = max((i for i in level if trials[i].cost <= most_expensive), key=lambda i: scores[i])  # of equals the first
    return TuningChoice(trials[winner], trials[best], scores)


def _resampled(all_probs: Sequence[NDArray[np.float64]], gold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Macro-F1 of every trial on the same bootstrap samples of the texts, float [R, resamples]."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(gold), len(gold)) for _ in range(N_RESAMPLES)]
    return np.array([[macro_f1(probs[draw], gold[draw]) for draw in draws] for probs in all_probs])
