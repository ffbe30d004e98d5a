"""Ways to label side by side: each made of stored paths, and scored on the same gold texts.

Axes: N gold texts, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig
from potstill.labeler.aggregation.path_table import NO_GOLD, path_table
from potstill.labeler.aggregation.soft_labels import distributions, neighbours
from potstill.labeler.config import LabelConfig
from potstill.labeler.paths import TeacherPath
from potstill.labeler.store.label_store import LabelStore, Run
from potstill.labeler.tuning.candidates import prompt_name, way_name
from potstill.labeler.tuning.gold_split import GoldHalves
from potstill.labeler.tuning.trial import Choice, Trial, choose

MAX_UNANSWERED = 0.1  # share of the texts; a way to label that leaves out more is no candidate


class Comparison:
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

    def choice(self) -> Choice:
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
