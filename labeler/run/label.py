"""One labelling run: find the missing paths, draw them, and store each one before it is counted."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from potstill.contract.errors import StoppedError, UserError, count_of
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.candidates import as_shown, is_narrowed
from potstill.labeler.config import LabelConfig, with_mode
from potstill.labeler.prompts.variants import Nearest, PromptVariant, prompt_variants, prompts_digest
from potstill.labeler.prompts.wordings import with_all_words
from potstill.labeler.run.first_look import looked_at
from potstill.labeler.run.path_collector import OutOfTimeError, PathCollector, RunCallback
from potstill.labeler.store.database import LabelStore, Run, RunSettings
from potstill.labeler.store.questions import OneQuestion, own_texts
from potstill.labeler.teacher import DECIDING, AnswerSpec, Identity, Teacher
from potstill.models.catalog import best_mode

N_LOOKED_AT = 256  # texts whose first look is stored together


@dataclass(frozen=True)
class LabelReport:
    """Counts and duration of a run."""

    run: Run
    n_texts: int
    n_paths: int  # stored, including those of earlier commands
    n_drawn: int  # drawn by this command
    n_too_long: int
    n_cut: int  # texts of which the teacher saw only the beginning
    seconds: float
    in_time: bool = True  # whether every wanted path was drawn before the time was up

    def as_text(self) -> str:
        """One line for a person."""
        notes = [f"{self.n_drawn} of them drawn now in {self.seconds:.0f} s"]
        if not self.in_time:
            notes.append("the time was up before the rest")
        if self.n_cut:
            notes.append(f"{count_of(self.n_cut, 'text')} {'was' if self.n_cut == 1 else 'were'} cut for the prompt")
        if self.n_too_long:
            notes.append(
                "1 text is too long for the teacher's context and has no label"
                if self.n_too_long == 1
                else f"{self.n_too_long} texts are too long for the teacher's context and have no label"
            )
        return (
            f"{count_of(self.n_paths, 'path')} of {count_of(self.n_texts, 'text')} {'is' if self.n_paths == 1 else 'are'} stored; "
            + "; ".join(notes)
        )


def label(
    task: Task,
    texts: Sequence[Text],
    store_path: pathlib.Path,
    teacher: Teacher,
    config: LabelConfig,
    progress: RunCallback | None = None,
    nearest: Nearest | None = None,
    *,
    after: Run | None = None,
    ends_at: float | None = None,
    question: OneQuestion | None = None,
) -> LabelReport:
    """Draw every path that the store does not hold yet. After a kill at any moment, the same call resumes the run.

    Args:
        progress: called after every few paths, once they are stored.
        nearest: worked examples for each text, where the configuration chooses them by similarity.
        after: the run of a first teacher, about whose uncertain texts this one is asked.
        ends_at: moment on the clock `time.monotonic()`, in seconds, at which drawing ends, whatever is missing; None: never.
        question: of a larger task, which the task is one question of; None: the task is all there is.
    Raises:
        UserError: if the store holds a run that differs (and `new_run` is off), or the teacher fails.
        StoppedError: on KeyboardInterrupt; everything drawn so far is stored.
    """
    config = with_mode(config, best_mode(teacher.identity.name), decides=teacher.identity.api in DECIDING)
    variants = prompt_variants(task, config, teacher.identity, nearest)
    with LabelStore.create(store_path) as store:
        settings = run_settings(task, variants, teacher, config)
        if question is not None:
            settings = question.named(settings)
        run = begin(store, msgspec.structs.replace(settings, after=after.settings.digest if after else ""), config)
        store.add_texts(texts)
        began = time.monotonic()
        variants, in_time = _with_candidates(_Asked(store, run, teacher, config, ends_at), texts, variants)
        own = own_texts(texts, run.settings, store_path)
        collector = PathCollector(store, run, teacher, config, own, variants, progress, ends_at)
        found = collector.progress
        try:
            for variant in variants:
                collector.draw(variant)
        except OutOfTimeError:
            in_time = False
        except KeyboardInterrupt as stop:
            (n_stored,) = store.query("select count(*) from paths where run = ?", run.number)[0]  # the last ones may not be counted
            raise StoppedError(
                f"stopped; {n_stored} of {found.total} paths are in {store_path}; the same command draws the rest"
            ) from stop
        n_cut = n_cut_texts(texts, task.input.max_chars)
        n_unlabelled = len(collector.too_long - collector.done.keys())  # a text that fits in some prompts has a label
        seconds = time.monotonic() - began
        return LabelReport(run, len(texts), found.n_paths, found.n_drawn, n_unlabelled, n_cut, seconds, in_time)


def n_cut_texts(texts: Sequence[Text], max_chars: int) -> int:
    """Number of texts of which the teacher sees only the beginning."""
    return sum(len(" ".join(text.text.split())) > max_chars for text in texts)


def run_settings(task: Task, variants: Sequence[PromptVariant], teacher: Teacher, config: LabelConfig) -> RunSettings:
    """Everything that decides the paths. The number of paths is not part of it: asking for more adds to the same run."""
    return settings_of(task, prompts_digest(variants), [variant.spec for variant in variants], teacher.identity, config)


def settings_of(
    task: Task, prompt_digest: str, specs: Sequence[AnswerSpec], identity: Identity, config: LabelConfig
) -> RunSettings:
    """The settings of a run. Args: specs, of all prompt variants."""
    # a server that decides is asked about labels, not about words: each by its first one
    decides = identity.api in DECIDING
    shown = as_shown(task) if is_narrowed(task, config) else task if decides else with_all_words(task)
    spellings = [label.spellings[:1] if decides else label.spellings for label in shown.labels]
    return RunSettings(
        task_digest=task.digest,
        prompt_digest=prompt_digest,
        labels=task.label_names,
        words=[word for own in spellings for word in own],
        word_labels=[i for i, own in enumerate(spellings) for _ in own],
        teacher=identity.name,
        teacher_digest=identity.digest,
        source_digest=identity.source_digest,
        build=identity.build,
        mode=config.mode,
        n_variants=len(specs),
        temperature=config.temperature,
        max_rationale_tokens=max(
            (spec.max_rationale_tokens for spec in specs if spec.mode == "cot"), default=config.max_rationale_tokens
        ),
        thoughts=any(spec.thought for spec in specs),
        seed=config.seed,
        n_direct=config.n_direct if config.mode == "cascade" else 0,
        bound=config.bound,
        template=config.template,
        examples=config.examples,
        guideline=config.guideline,
        deterministic=config.deterministic,
        kv_type=identity.kv_type,
        gpu_layers=identity.gpu_layers,
        api="" if identity.api == "completions" else identity.api,
        candidates=config.candidates if is_narrowed(task, config) else 0,
        wordings=0 if decides else len(task.wordings),
    )


@dataclass(frozen=True)
class _Asked:
    """Where a run is stored, and who is asked."""

    store: LabelStore
    run: Run
    teacher: Teacher
    config: LabelConfig  # with a real mode
    ends_at: float | None  # moment on the clock `time.monotonic()`, in seconds; None: never


def _with_candidates(asked: _Asked, texts: Sequence[Text], variants: Sequence[PromptVariant]) -> tuple[list[PromptVariant], bool]:
    """(the variants with each text's stored candidates, whether all were found in time; if not, there is no variant).

    A resumed run asks about the candidates that it began with. Those of a first look are stored block by block.

    Raises:
        StoppedError: on KeyboardInterrupt; the candidates found so far are stored.
    """
    store, run, chosen = asked.store, asked.run, variants[0].nearest
    if not run.settings.candidates or chosen is None:
        return list(variants), True
    if not chosen.groups:
        stored = store.add_candidates(run, {text.id: chosen.candidates[text.id] for text in texts})
        return [replace(variant, nearest=replace(chosen, candidates=stored)) for variant in variants], True
    stored = store.add_candidates(run, {})
    waiting = [text for text in texts if text.id not in stored]
    try:
        for start in range(0, len(waiting), N_LOOKED_AT):
            if asked.ends_at is not None and time.monotonic() >= asked.ends_at:
                return [], False
            block = waiting[start : start + N_LOOKED_AT]
            stored = store.add_candidates(run, looked_at(variants[0].task, block, asked.teacher, asked.config, chosen))
    except KeyboardInterrupt as stop:
        raise StoppedError(
            f"stopped at the first look; the candidates of {len(store.candidates(run))} of {len(texts)} texts are in {store.path}; "
            "the same command goes on from there"
        ) from stop
    return [replace(variant, nearest=replace(chosen, candidates=stored)) for variant in variants], True


def begin(store: LabelStore, settings: RunSettings, config: LabelConfig) -> Run:
    """The run to continue or start; raises UserError rather than mix with a run that differs.

    Beside it stand the runs of a second teacher, and those of other questions of the same task.
    """
    kind, question = bool(settings.after), settings.question
    earlier = [run for run in store.runs() if bool(run.settings.after) == kind]
    earlier = [run for run in earlier if question == run.settings.question or not (question and run.settings.question)]
    if earlier and not config.new_run and not any(run.settings.is_same_run(settings) for run in earlier):
        last = earlier[-1].settings
        fields = [name for name in RunSettings.__struct_fields__ if getattr(last, name) != getattr(settings, name)]
        raise UserError(
            f"{store.path}: was labelled with another {', '.join(field.replace('_', ' ') for field in fields)}; "
            "use --new-run to label again beside it, or another folder"
        )
    return store.begin_run(settings)
