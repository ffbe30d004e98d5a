"""The labelling stage as the console and the pipeline run it: read, label, write soft labels, count what was passed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from potstill.commands.console.signals import heeding_sigterm
from potstill.commands.options.derive import derive_config
from potstill.contract.errors import FormatError, StoppedError, UserError
from potstill.contract.project import TEACHER
from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.task import Task
from potstill.contract.texts import Text, Texts, read_texts
from potstill.labeler.aggregation import soft_labels
from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig, check_derive, check_embedding_libraries
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.variants import Nearest, nearest_examples
from potstill.labeler.run.forecast import Forecast, forecast
from potstill.labeler.run.label import LabelReport, label
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.store.label_store import LabelStore
from potstill.labeler.teacher import Teacher
from potstill.labeler.teachers.local_teacher import LocalConfig
from potstill.labeler.teachers.opening import PACKS, Pack, is_server, open_local, open_teacher
from potstill.models.catalog import find_backbone

STORE_FILE, SOFT_LABELS_FILE, GOLD_LABELS_FILE = "labels.db", "soft_labels.parquet", "gold_labels.parquet"


@dataclass(frozen=True)
class LabelPlan:
    """What to label, with which teacher, into which folder."""

    task: Task
    texts: Texts
    gold: Texts | None
    out: Path
    config: LabelConfig
    gold_file: Path | None = None  # where the gold texts come from
    teacher: str = TEACHER
    derive: DeriveConfig = DEFAULTS
    pack: Pack = "auto"
    threads: int | None = None
    parallel: int | None = None
    model: str | None = None  # of a server
    concurrency: int | None = None  # requests at a server at once

    @property
    def all_texts(self) -> list[Text]:
        """Texts and gold texts."""
        return [*self.texts.texts, *(self.gold.texts if self.gold else [])]


@dataclass(frozen=True)
class LabellingReport:
    """What was labelled, and where it is."""

    labels: LabelReport
    skipped: list[str]
    rows: list[SoftLabel]
    gold_rows: list[SoftLabel]
    out: Path

    def as_text(self) -> str:
        """A few lines for a person."""
        n_wrote = f"wrote {len(self.rows)} soft labels to {self.out / SOFT_LABELS_FILE}"
        if self.gold_rows:
            n_wrote += f", and {len(self.gold_rows)} with gold to {self.out / GOLD_LABELS_FILE}"
        return "\n".join([*self.skipped, self.labels.as_text(), n_wrote])


def plan(task: Task, texts: Path, gold: Path | None, out: Path, options: Mapping[str, Any]) -> LabelPlan:
    """Read the files and check the settings before a model is loaded.

    Raises:
        FormatError: if a file is malformed, or a text stands in both.
        UserError: if a setting makes no sense.
    """
    names = {field.name for field in fields(LabelConfig)}
    config = LabelConfig(**{key: value for key, value in options.items() if key in names})
    derive = derive_config(options)
    check_derive(derive, task.label_names)
    read = read_texts(texts, labels=task.label_names, target=task.input.target)
    read_gold = read_texts(gold, labels=task.label_names, target=task.input.target, gold=True) if gold else None
    if read_gold:
        both = {text.id for text in read.texts} & {text.id for text in read_gold.texts}
        same = {(text.text, text.target) for text in read.texts} & {(text.text, text.target) for text in read_gold.texts}
        if both or same:
            found = min(both) if both else min(same)[0][:40]
            raise FormatError(
                gold or texts, "", f"shares {len(both) or len(same)} texts with {texts} ({found!r}, say); remove them from one file"
            )
    others = {key: value for key, value in options.items() if key not in names | {field.name for field in fields(DeriveConfig)}}
    if config.deterministic and others.get("parallel"):
        raise UserError("a deterministic run fixes how many paths are stepped at once; leave out --parallel or --deterministic")
    if others.get("pack", PACKS[0]) not in PACKS:
        raise UserError(f"pack is {others['pack']!r}; allowed: {', '.join(PACKS)}")
    concurrency = others.get("concurrency")
    if concurrency is not None and not (isinstance(concurrency, int) and concurrency >= 1):
        raise UserError(f"concurrency is {concurrency!r}; it must be a whole number, at least 1")
    return LabelPlan(task, read, read_gold, out, config, gold, derive=derive, **others)


def run(labelling: LabelPlan, progress: RunCallback | None = None, tell: Callable[[str], None] = lambda _: None) -> LabellingReport:
    """Label everything and write the soft labels. SIGTERM stops it as Ctrl-C does.

    Raises:
        UserError: if no text fits into the teacher's context; else as :func:`potstill.labeler.run.label.label`.
    """
    with heeding_sigterm():
        try:
            return _run(labelling, progress, tell)
        except KeyboardInterrupt as stop:  # before the first path, or after the last one
            raise StoppedError(
                f"stopped; what is labelled is kept in {labelling.out}; the same command goes on from there"
            ) from stop


def _run(labelling: LabelPlan, progress: RunCallback | None, tell: Callable[[str], None]) -> LabellingReport:
    """Label everything and write the soft labels."""
    store_path = labelling.out / STORE_FILE
    if store_path.exists():
        LabelStore.create(store_path).close()  # a store that is in use or damaged is found before the teacher is loaded
    nearest = _nearest(labelling, tell)
    teacher = teacher_of(labelling, tell)
    try:
        report = label(labelling.task, labelling.all_texts, store_path, teacher, labelling.config, progress, nearest)
    finally:
        teacher.close()
    if not report.n_paths:
        raise UserError(
            f"none of the {report.n_texts} texts fits into the context of {labelling.teacher}, so none has a label; "
            "show the teacher less of each with input.max_chars in the task"
        )
    with LabelStore.read(store_path) as store:
        derived = soft_labels.derive(store, report.run, labelling.derive, [text.id for text in labelling.all_texts])
    for warning in derived.warnings:
        tell(f"note: {warning}")
    # rows that carry a gold label are for scores: a student trained on them would have seen its exam
    for_training = [row for row in derived.rows if row.gold is None]
    with_gold = [row for row in derived.rows if row.gold is not None]
    write_soft_labels(labelling.out / SOFT_LABELS_FILE, for_training)
    if with_gold:
        write_soft_labels(labelling.out / GOLD_LABELS_FILE, with_gold)
    skipped = [line for read in (labelling.texts, labelling.gold) if read and (line := read.skipped_line())]
    return LabellingReport(report, skipped, for_training, with_gold, labelling.out)


def dry_run(labelling: LabelPlan, tell: Callable[[str], None] = lambda _: None) -> Forecast:
    """What :func:`run` would cost from its beginning.

    Raises:
        UserError: if the teacher is a server, whose speed cannot be measured from here; else as `labeler.run.forecast.forecast`.
    """
    if is_server(labelling.teacher):
        raise UserError(f"a dry run is for a teacher in this process; for {labelling.teacher}, label a few texts and see")
    nearest = _nearest(labelling, tell)
    teacher = open_local(labelling.teacher, pack=labelling.pack, config=_local_config(labelling), tell=tell)
    try:
        return forecast(labelling.task, labelling.all_texts, teacher, labelling.config, nearest)
    finally:
        teacher.close()


def teacher_of(labelling: LabelPlan, tell: Callable[[str], None] = lambda _: None) -> Teacher:
    """The plan's teacher, loaded or connected; raises as :func:`potstill.labeler.teachers.opening.open_teacher` does."""
    return open_teacher(
        labelling.teacher,
        pack=labelling.pack,
        config=_local_config(labelling),
        model=labelling.model,
        concurrency=labelling.concurrency,
        tell=tell,
    )


def _local_config(labelling: LabelPlan) -> LocalConfig:
    """How much runs at once."""
    return LocalConfig(labelling.threads, n_live_paths=labelling.parallel, deterministic=labelling.config.deterministic)


def _nearest(labelling: LabelPlan, tell: Callable[[str], None]) -> Nearest | None:
    """The worked examples that are most similar to each text, where those are wanted."""
    config = labelling.config
    if config.examples != "nearest":
        return None
    check_embedding_libraries()
    backbone = find_backbone(labelling.derive.backbone)
    tell(f"choosing the worked examples for {len(labelling.all_texts)} texts with {backbone.name}")
    return nearest_examples(labelling.task, labelling.all_texts, config.n_examples_per_label, backbone)
