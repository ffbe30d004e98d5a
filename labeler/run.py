"""One labelling run: which paths are missing, ask for them, store each before it is counted, derive soft labels at the end."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from contract import digest
from contract.errors import StoppedError, UserError
from contract.task import Task
from contract.texts import Text
from labeler import prompt
from labeler.paths import Ask, TeacherPath, TooLong
from labeler.store import LabelStore, Run, RunSettings
from labeler.teacher import Mode, Reading, Teacher

Progress = Callable[[str, int, int], None]  # stage, paths done, paths in all
T = TypeVar("T")


@dataclass(frozen=True)
class LabelConfig:
    """How a run asks. The defaults are those of arXiv 2212.11311: 8 paths, temperature 0.5, 2 worked examples per label."""

    mode: Mode = "cot"
    n_paths: int = 8
    n_variants: int | None = None  # prompts with different worked examples; None: one per path in `direct`, one in `cot`
    n_examples_per_label: int = 2
    temperature: float = 0.5
    max_rationale_tokens: int = 40
    seed: int = 0
    new_run: bool = False  # start beside the runs that the store holds, although they differ

    @property
    def variants(self) -> int:
        """Prompt variants that the paths share out among them."""
        return self.n_variants or (self.n_paths if self.mode == "direct" else 1)


@dataclass(frozen=True)
class LabelReport:
    """What a run did."""

    run: Run
    n_texts: int
    n_paths: int  # stored in all
    n_drawn: int  # of them, drawn now
    n_too_long: int
    n_cut: int  # texts of which the teacher saw only the beginning
    seconds: float

    def as_text(self) -> str:
        """Two lines for a person."""
        notes = [f"{self.n_drawn} of them drawn now in {self.seconds:.0f} s"]
        if self.n_cut:
            notes.append(f"{self.n_cut} texts were cut for the prompt")
        if self.n_too_long:
            notes.append(f"{self.n_too_long} texts are too long for the teacher's context and have no label")
        return f"{self.n_paths} paths of {self.n_texts} texts are stored; " + "; ".join(notes)


def label(
    task: Task,
    texts: Sequence[Text],
    store_path: pathlib.Path,
    teacher: Teacher,
    config: LabelConfig,
    progress: Progress | None = None,
) -> LabelReport:
    """Draw every path that the store does not hold yet. Killed at any moment and run again, it goes on where it was.

    Raises:
        UserError: if the settings make no sense, the store holds a run that differs (and new_run is off), or the teacher fails.
        StoppedError: on KeyboardInterrupt; everything drawn so far is stored.
    """
    check_config(config)
    variants = prompt.variants(task, config.variants, config.n_examples_per_label, config.seed)
    prefixes = [prompt.prefix(task, variant, config.mode) for variant in variants]
    with LabelStore.create(store_path) as store:
        run = _begin(store, run_settings(task, prefixes, teacher, config), config)
        store.add_texts(texts)
        done = store.done(run)
        too_long = store.too_long(run)
        n_all = len(texts) * config.n_paths
        n_stored = sum(len(done.get(text.id, ())) for text in texts)
        began, n_drawn = time.monotonic(), 0
        try:
            for number, prefix in enumerate(prefixes):
                asks = [ask for text in texts if text.id not in too_long and (ask := _ask(task, text, number, done, config))]
                results = teacher.answer(prefix, number, asks, reading(task, config), config.seed) if asks else iter(())
                for batch in _batched(results):
                    store.add(run, batch)
                    too_long |= {result.text_id for result in batch if isinstance(result, TooLong)}
                    n_drawn += sum(isinstance(result, TeacherPath) for result in batch)
                    if progress:
                        progress("label", n_stored + n_drawn, n_all - len(too_long) * config.n_paths)
        except KeyboardInterrupt:
            raise StoppedError(
                f"stopped; {n_stored + n_drawn} of {n_all} paths are in {store_path}; the same command draws the rest"
            ) from None
        n_cut = sum(len(" ".join(text.text.split())) > task.input.max_chars for text in texts)
        return LabelReport(run, len(texts), n_stored + n_drawn, n_drawn, len(too_long), n_cut, time.monotonic() - began)


def check_config(config: LabelConfig) -> None:
    """Refuse settings that cannot draw a path; raises UserError."""
    for name, value in (
        ("paths", config.n_paths),
        ("variants", config.variants),
        ("examples per label", config.n_examples_per_label),
    ):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be at least 1")
    if not config.temperature > 0:
        raise UserError(f"temperature is {config.temperature}; it must be above 0")
    if config.mode == "direct" and config.n_paths > config.variants:
        raise UserError(
            f"mode direct samples nothing, so {config.n_paths} paths need {config.n_paths} variants (found {config.variants}); "
            "raise the variants, lower the paths, or use mode cot"
        )


def reading(task: Task, config: LabelConfig) -> Reading:
    """How the teacher's answers to this task are drawn and read."""
    return Reading(
        mode=config.mode,
        words=tuple(word for label in task.labels for word in label.spellings),
        rationale_cue=f"{task.prompt.rationale}:",
        answer_cue=f"{task.prompt.answer}:",
        temperature=config.temperature,
        max_rationale_tokens=config.max_rationale_tokens,
    )


def run_settings(task: Task, prefixes: Sequence[str], teacher: Teacher, config: LabelConfig) -> RunSettings:
    """Everything that decides the paths. How many paths are drawn is no part of it: asking for more adds to the same run."""
    identity = teacher.identity
    return RunSettings(
        task_digest=task.digest,
        prompt_digest=digest.of_value(list(prefixes[: config.variants])),
        labels=task.label_names,
        words=[word for label in task.labels for word in label.spellings],
        word_labels=[i for i, label in enumerate(task.labels) for _ in label.spellings],
        teacher=identity.name,
        teacher_digest=identity.digest,
        source_digest=identity.source_digest,
        build=identity.build,
        mode=config.mode,
        n_variants=config.variants,
        temperature=config.temperature,
        max_rationale_tokens=config.max_rationale_tokens,
        seed=config.seed,
    )


def _begin(store: LabelStore, settings: RunSettings, config: LabelConfig) -> Run:
    """The run to go on with; refuses to mix with a run that differs."""
    earlier = store.runs()
    if earlier and not config.new_run and all(run.settings != settings for run in earlier):
        last = earlier[-1].settings
        fields = [name for name in RunSettings.__struct_fields__ if getattr(last, name) != getattr(settings, name)]
        raise UserError(
            f"{store.path}: was labelled with another {', '.join(field.replace('_', ' ') for field in fields)}; "
            "use --new-run to label again beside it, or another folder"
        )
    return store.begin_run(settings)


def _ask(task: Task, text: Text, variant: int, done: dict[str, set[int]], config: LabelConfig) -> Ask | None:
    """The paths of this variant that the text still lacks."""
    missing = [n for n in range(variant, config.n_paths, config.variants) if n not in done.get(text.id, ())]
    return Ask(text.id, prompt.block(task, text.text, text.target, config.mode), tuple(missing)) if missing else None


def _batched(results: Iterable[T], seconds: float = 0.5) -> Iterator[list[T]]:
    """The results in lists of about half a second's worth: one commit for each path would cost more than the path."""
    batch: list[T] = []
    began = time.monotonic()
    try:
        for result in results:
            batch.append(result)
            if time.monotonic() - began >= seconds:
                yield batch
                batch, began = [], time.monotonic()
    except (KeyboardInterrupt, UserError):
        if batch:
            yield batch  # what was drawn before it stopped counts too
        raise
    if batch:
        yield batch
