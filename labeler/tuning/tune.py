"""Find the best way to ask a teacher with some gold texts: wording, prompt, number of paths, reasoning, derivation.

It works in stages, each starting from the winner of the one before, so it takes minutes and not hours: the wordings, where there
are several, and then the prompts, with two direct answers each; the best prompt with up to eight; the same with rationales, and
both together; then the derivations, which need no token.

Axes: N gold texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.task import Task
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.variant_weights import MIN_VARIANTS
from potstill.labeler.candidates import is_narrowed
from potstill.labeler.config import LabelConfig
from potstill.labeler.encoder_at_hand import encoder_at_hand
from potstill.labeler.prompts.variants import chosen_by_similarity
from potstill.labeler.run.adaptive import least_certain
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.teacher import DECIDING, Teacher
from potstill.labeler.tuning.candidates import paths_name, prompt_choices, prompt_name
from potstill.labeler.tuning.comparison import Trial, TrialComparison, TuningChoice
from potstill.labeler.tuning.config import TuneConfig
from potstill.labeler.tuning.gold_runs import STORE_FILE, GoldPaths, GoldRuns
from potstill.labeler.tuning.gold_split import GoldHalves
from potstill.labeler.tuning.wordings import OWN, WordedTask

N_PROMPT_PATHS = 2  # direct answers per prompt when prompts are compared
N_PATHS = (1, 2, 4, 8)  # compared on the best prompt; the first paths of a run are a smaller run, so only the last is drawn
N_SMOOTH = 10  # neighbours
_MOST = N_PATHS[-1]


@dataclass(frozen=True)
class Tuned:
    """Every trial, and the one that was chosen."""

    halves: GoldHalves
    trials: list[Trial]
    choice: TuningChoice
    answered: NDArray[np.bool_]  # [N], whether every trial answered a text; only those texts count
    notes: list[str]  # one line each, for a person

    @property
    def judges(self) -> NDArray[np.bool_]:
        """Whether a text is in the evaluation half, bool [N]."""
        return ~self.halves.chooses & self.answered


def tune(
    task: Task,
    halves: GoldHalves,
    out: Path,
    teacher: Teacher,
    config: TuneConfig,
    progress: RunCallback | None = None,
    tell: Callable[[str], None] = lambda _: None,
    *,
    wordings: Sequence[WordedTask] = (),
) -> Tuned:
    """Try all candidates and choose one. After a stop at any moment, the same call continues from the store in ``out``.

    Args:
        wordings: of the task, to compare it with; what is found best is then tuned.
        tell: called with a message for the user before each trial.
    Raises:
        UserError: as :func:`potstill.labeler.run.label.label`, or if there is nothing to try.
        StoppedError: on KeyboardInterrupt; everything drawn so far is stored.
    """
    config = replace(config, cot=config.cot and teacher.identity.api not in DECIDING)
    comparison = TrialComparison(out / STORE_FILE, halves)
    if wordings and is_narrowed(task, LabelConfig()):
        raise UserError(
            f"the task has {len(task.labels)} labels, of which each text is asked among a few, and wordings are compared where it "
            "is asked among all; leave out --wording and --rewrites"
        )
    if wordings:
        first = GoldRuns(task, halves.texts, out, teacher, None, progress)
        task = _compare_wordings(
            comparison, first, wordings, prompt_choices(task, config, teacher.identity, similar=False)[0][0], tell
        )
    backbone, reason = encoder_at_hand(config.backbone)
    narrow = is_narrowed(task, LabelConfig())
    if narrow:  # the candidates' worked examples are chosen for each text already
        config = replace(config, examples=("diverse",), templates=("plain",))
    prompts, left_out = prompt_choices(task, config, teacher.identity, similar=backbone is not None)
    if narrow and backbone is None:
        raise UserError(f"the task has {len(task.labels)} labels, and an encoder chooses each text's candidates: {reason}")
    if backbone is None:
        left_out.append(f"examples nearest and smoothing: {reason}")
    nearest = None
    if backbone and (narrow or any(prompt.examples == "nearest" for prompt in prompts)):
        similar = replace(prompts[0], examples="nearest")
        nearest = chosen_by_similarity(task, halves.texts, similar, backbone)
    runs = GoldRuns(task, halves.texts, out, teacher, nearest, progress)
    steps = _steps(len(prompts) + 1 + config.cot, tell)
    best = _compare_prompts(comparison, runs, prompts, steps)
    _compare_paths(comparison, runs, best, steps, cot=config.cot)
    _compare_derivations(comparison, config.backbone if backbone else None)
    notes = [*halves.notes, *(f"left out: {line}" for line in [*left_out, *comparison.left_out])]
    answered = comparison.answered
    if n_missing := int((~answered).sum()):
        notes.append(f"{n_missing} texts do not fit in the teacher's context with some prompt, and are not scored")
    return Tuned(halves, comparison.trials, comparison.choice(), answered, notes)


def _compare_wordings(
    comparison: TrialComparison, own: GoldRuns, wordings: Sequence[WordedTask], prompt: LabelConfig, tell: Callable[[str], None]
) -> Task:
    """Draw two direct answers with each wording, the task's own first; returns the task of the chosen one."""
    group = f"wordings, {N_PROMPT_PATHS} direct answers each"
    for number, wording in enumerate([None, *wordings], start=1):
        name = wording.name if wording else OWN
        tell(f"trying wording {number} of {len(wordings) + 1}: {name}")
        runs = own.of(wording.task) if wording else own
        drawn = runs.draw(replace(prompt, n_paths=N_PROMPT_PATHS, n_variants=_MOST))
        comparison.wording = wording
        config = replace(prompt, n_paths=N_PROMPT_PATHS)
        comparison.add(group, name, config, drawn.run, drawn.paths, drawn.seconds(drawn.paths))
    comparison.wording = comparison.choice().winner.wording
    return comparison.wording.task if comparison.wording else own.task


def _compare_prompts(
    comparison: TrialComparison, runs: GoldRuns, prompts: Sequence[LabelConfig], step: Callable[[str], None]
) -> LabelConfig:
    """Draw two direct answers with each prompt; returns the chosen prompt."""
    group = f"prompts, {N_PROMPT_PATHS} direct answers each"
    for prompt in prompts:
        step(f"{prompt_name(prompt)}, {N_PROMPT_PATHS} direct answers")
        drawn = runs.draw(replace(prompt, n_paths=N_PROMPT_PATHS, n_variants=_MOST))  # so that its run can be extended
        config = replace(prompt, n_paths=N_PROMPT_PATHS)
        comparison.add(group, prompt_name(prompt), config, drawn.run, drawn.paths, drawn.seconds(drawn.paths))
    return comparison.choice().winner.config


def _compare_paths(
    comparison: TrialComparison, runs: GoldRuns, prompt: LabelConfig, step: Callable[[str], None], *, cot: bool
) -> None:
    """Draw more answers with one prompt, direct and after a rationale, and combine both in a cascade."""
    group = f"answers a text, {prompt_name(prompt)}"
    step(f"{prompt_name(prompt)}, {_MOST} direct answers")
    direct = runs.draw(replace(prompt, n_paths=_MOST, n_variants=_MOST))
    _add_numbers(comparison, group, prompt, direct)
    if not cot:
        return
    step(f"{prompt_name(prompt)}, {_MOST} answers after a rationale")
    reasoning = replace(prompt, mode="cot", n_paths=_MOST)
    reasoned = runs.draw(reasoning)
    _add_numbers(comparison, group, reasoning, reasoned)
    _add_cascade(comparison, runs, group, direct, reasoned, replace(reasoning, mode="cascade"))


def _add_numbers(comparison: TrialComparison, group: str, config: LabelConfig, drawn: GoldPaths) -> None:
    """Add trials with the first 1, 2, 4 and 8 paths of a run."""
    for n in N_PATHS:
        paths = [path for path in drawn.paths if path.path < n]
        fewer = replace(config, n_paths=n)
        comparison.add(group, paths_name(fewer), fewer, drawn.run, paths, drawn.seconds(paths))


def _add_cascade(
    comparison: TrialComparison, runs: GoldRuns, group: str, direct: GoldPaths, reasoned: GoldPaths, config: LabelConfig
) -> None:
    """Add a cascade: direct answers of all texts, and the reasoned ones of the uncertain texts, as a real one would draw them."""
    first = [path for path in direct.paths if path.variant < config.n_direct]
    with LabelStore.read(runs.store_path) as store:
        uncertain = {text.id for text in least_certain(store, direct.run, runs.texts, config.uncertain, below=config.n_direct)}
    more = [path for path in reasoned.paths if path.text_id in uncertain]
    renumbered = [replace(path, path=path.path + config.n_direct, variant=path.variant + config.n_direct) for path in more]
    settings = msgspec.structs.replace(
        direct.run.settings, mode="cascade", n_direct=config.n_direct, n_variants=config.n_direct + config.cot_variants
    )
    seconds = [direct.seconds(first), reasoned.seconds(more)]
    total = None if None in seconds else sum(part for part in seconds if part is not None)
    comparison.add(group, paths_name(config), config, Run(direct.run.number, settings), [*first, *renumbered], total)


def _compare_derivations(comparison: TrialComparison, backbone: str | None) -> None:
    """Try other derivations of three trials: the winner so far, the best one, and the one with the most direct answers.

    Args:
        backbone: for smoothing; None leaves smoothing out.
    """
    choice = comparison.choice()
    by_config = {repr(trial.config): trial for trial in comparison.trials}  # of two equal ones, the later
    winner, best = by_config[repr(choice.winner.config)], by_config[repr(choice.best.config)]
    most_direct = [trial for trial in comparison.trials if trial.config.mode == "direct"][-1]
    for trial in {id(trial): trial for trial in (winner, best, most_direct)}.values():
        comparison.add_derived(trial, DeriveConfig(method="affine"))
        if backbone:
            comparison.add_derived(trial, DeriveConfig(smooth=N_SMOOTH, backbone=backbone))
        if len({path.variant for path in trial.paths}) >= MIN_VARIANTS:
            comparison.add_derived(trial, DeriveConfig(weighting="agreement"))


def _steps(n: int, tell: Callable[[str], None]) -> Callable[[str], None]:
    """Progress callback: `trying 2 of 5: ...`."""
    numbers: Iterator[int] = iter(range(1, n + 1))
    return lambda what: tell(f"trying {next(numbers)} of {n}: {what}")
