"""Finding out with some gold texts how a teacher is asked best: prompt, number of paths, reasoning, derivation.

In stages, each from where the one before ended, so that it costs minutes and not hours: the prompts by two direct answers; the best
prompt with up to eight; the same with rationales, and both together; then what is made of the paths, which costs no token.

Axes: N gold texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import MissingExtraError, UserError
from potstill.contract.task import Task
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.variant_weights import MIN_VARIANTS
from potstill.labeler.config import LabelConfig
from potstill.labeler.run.adaptive import least_certain
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.store.label_store import LabelStore, Run
from potstill.labeler.teacher import Teacher
from potstill.labeler.tuning.candidates import TuneConfig, prompt_choices, prompt_name, way_name
from potstill.labeler.tuning.comparison import Trial, TrialComparison, TuningChoice
from potstill.labeler.tuning.gold_runs import GoldPaths, GoldRuns
from potstill.labeler.tuning.gold_split import GoldHalves
from potstill.models.catalog import ModelFolder, find_backbone

N_PROMPT_PATHS = 2  # direct answers that compare prompts
N_PATHS = (1, 2, 4, 8)  # compared on the best prompt; fewer are a part of more, so only the last are drawn
N_SMOOTH = 10  # neighbours
_MOST = N_PATHS[-1]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Tuned:
    """Every way to label that was tried, and the one that was chosen."""

    halves: GoldHalves
    trials: list[Trial]
    choice: TuningChoice
    answered: NDArray[np.bool_]  # [N], the texts that every trial answered, which are the ones that count
    notes: list[str]  # what a person should know, a line each

    @property
    def judges(self) -> NDArray[np.bool_]:
        """The texts that had no say in the choice, bool [N]."""
        return ~self.halves.chooses & self.answered


def tune(
    task: Task,
    halves: GoldHalves,
    out: Path,
    teacher: Teacher,
    config: TuneConfig,
    progress: RunCallback | None = None,
    tell: Tell = lambda _: None,
) -> Tuned:
    """Try, and choose. Stopped at any moment and called again, it goes on where it was, in the store in ``out``.

    Args:
        tell: takes a line about what is being tried.
    Raises:
        UserError: as :func:`potstill.labeler.run.label.label`, or if there is nothing to try.
    """
    backbone, reason = _backbone(config.backbone)
    prompts, left_out = prompt_choices(task, config, teacher.identity, similar=backbone is not None)
    if backbone is None:
        left_out.append(f"examples nearest and smoothing: {reason}")
    nearest = None
    if backbone and any(prompt.examples == "nearest" for prompt in prompts):
        from potstill.labeler.prompts.similar_examples import nearest_examples  # torch is loaded only here

        nearest = nearest_examples(task, halves.texts, config.n_examples_per_label, backbone)
    runs = GoldRuns(task, halves.texts, out, teacher, nearest, progress)
    comparison = TrialComparison(runs.store_path, halves)
    steps = _steps(len(prompts) + 1 + config.cot, tell)
    best = _compare_prompts(comparison, runs, prompts, steps)
    _compare_paths(comparison, runs, best, steps, cot=config.cot)
    _compare_derivations(comparison, config.backbone if backbone else None)
    notes = [*halves.notes, *(f"left out: {line}" for line in [*left_out, *comparison.left_out])]
    answered = comparison.answered
    if n_missing := int((~answered).sum()):
        notes.append(f"{n_missing} texts do not fit into the teacher's context with some prompt, and count nowhere")
    return Tuned(halves, comparison.trials, comparison.choice(), answered, notes)


def _compare_prompts(
    comparison: TrialComparison, runs: GoldRuns, prompts: Sequence[LabelConfig], step: Callable[[str], None]
) -> LabelConfig:
    """Two direct answers to each prompt; returns the prompt that is chosen."""
    group = f"prompts, {N_PROMPT_PATHS} direct answers each"
    for prompt in prompts:
        step(f"{prompt_name(prompt)}, {N_PROMPT_PATHS} direct answers")
        drawn = runs.draw(replace(prompt, n_paths=N_PROMPT_PATHS, n_variants=_MOST))  # so that the best one's run can go on
        config = replace(prompt, n_paths=N_PROMPT_PATHS)
        comparison.add(group, prompt_name(prompt), config, drawn.run, drawn.paths, drawn.seconds(drawn.paths))
    return comparison.choice().winner.config


def _compare_paths(
    comparison: TrialComparison, runs: GoldRuns, prompt: LabelConfig, step: Callable[[str], None], *, cot: bool
) -> None:
    """More answers to one prompt, direct and after a rationale, and the two together."""
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
    """The first 1, 2, 4 and 8 paths of a run."""
    for n in N_PATHS:
        paths = [path for path in drawn.paths if path.path < n]
        fewer = replace(config, n_paths=n)
        comparison.add(group, way_name(fewer), fewer, drawn.run, paths, drawn.seconds(paths))


def _add_cascade(
    comparison: TrialComparison, runs: GoldRuns, group: str, direct: GoldPaths, reasoned: GoldPaths, config: LabelConfig
) -> None:
    """Direct answers of all texts, and the reasoned ones of the uncertain texts, as a cascade would have drawn them."""
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
    comparison.add(group, way_name(config), config, Run(direct.run.number, settings), [*first, *renumbered], total)


def _compare_derivations(comparison: TrialComparison, backbone: str | None) -> None:
    """Other soft labels from the same paths, of the trial that is chosen so far, of the best one, and of eight direct answers.

    Args:
        backbone: to smooth with; None: there is none.
    """
    choice = comparison.choice()
    by_config = {repr(trial.config): trial for trial in comparison.trials}  # of two that are the same, the later one
    winner, best = by_config[repr(choice.winner.config)], by_config[repr(choice.best.config)]
    most_direct = [trial for trial in comparison.trials if trial.config.mode == "direct"][-1]
    for trial in {id(trial): trial for trial in (winner, best, most_direct)}.values():
        comparison.add_derived(trial, DeriveConfig(method="affine"))
        if backbone:
            comparison.add_derived(trial, DeriveConfig(smooth=N_SMOOTH, backbone=backbone))
        if len({path.variant for path in trial.paths}) >= MIN_VARIANTS:
            comparison.add_derived(trial, DeriveConfig(weighting="agreement"))


def _backbone(name: str) -> tuple[ModelFolder | None, str]:
    """The encoder in whose space texts are near each other, or why there is none."""
    try:
        import potstill.labeler.embeddings  # noqa: F401  # torch is loaded only here

        return find_backbone(name), ""
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers", "safetensors"):
            raise
        return None, str(MissingExtraError(error.name, "train"))
    except UserError as error:
        return None, str(error)


def _steps(n: int, tell: Tell) -> Callable[[str], None]:
    """Tells what is being tried, and which of how many it is."""
    numbers: Iterator[int] = iter(range(1, n + 1))
    return lambda what: tell(f"trying {next(numbers)} of {n}: {what}")
