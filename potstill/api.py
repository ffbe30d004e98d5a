"""The calls of the stages as programs and notebooks make them: texts in any form, a bar where somebody watches, results that show.

The texts of a call are a file (spreadsheet, CSV, JSON lines, Parquet), a list of strings, a Series, or a DataFrame with a column
`text`, and `id`, `target` or `gold` where there are such. Everything else is as in the commands of the same names.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from potstill.commands.console.notebook import is_watched
from potstill.commands.console.progress import label_progress, train_progress
from potstill.commands.console.progress import progress as step_progress
from potstill.contract.errors import UserError
from potstill.contract.questions.questionnaire import AnyTask
from potstill.contract.texts import Text, write_texts
from potstill.export.config import ExportConfig
from potstill.export.report import ExportReport
from potstill.export.run import ExportProgress
from potstill.export.run import export_bundle as export_checkpoint
from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig
from potstill.labeler.config import LabelConfig, PlanConfig
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.teachers.config import TeacherConfig, ThenConfig
from potstill.serve.config import CertifyConfig
from potstill.serve.offline import certify as certifying
from potstill.trainer.calibrate_on_gold import ConfidenceConfig, ConfidenceReport, QuestionsConfidence
from potstill.trainer.config import TrainConfig
from potstill.trainer.evaluation.comparison import SystemComparison
from potstill.trainer.evaluation.questions import QuestionsComparison
from potstill.trainer.run import JointReport, TrainReport
from potstill.trainer.run import train as train_student
from potstill.trainer.training.loop import TrainProgress
from potstill.workflows import evaluation, labelling, planning
from potstill.workflows.evaluation import EvaluateConfig
from potstill.workflows.labelling import LabellingReport
from potstill.workflows.planning import HoursPlan

COLUMNS = tuple(Text.__struct_fields__)  # of a table or a row that are read
_LABEL, _TEACHER, _TRAIN, _EXPORT = LabelConfig(), TeacherConfig(), TrainConfig(), ExportConfig()
_EVALUATE, _CERTIFY = EvaluateConfig(), CertifyConfig()

Callback = TypeVar("Callback")


def label(
    task: AnyTask | str | Path,
    texts: Any,
    out: str | Path,
    config: LabelConfig = _LABEL,
    *,
    gold: Any = None,
    teacher: TeacherConfig = _TEACHER,
    derive: DeriveConfig = DEFAULTS,
    then: ThenConfig | None = None,
    hours: float | None = None,
    progress: RunCallback | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> LabellingReport:
    """Have a teacher label texts; `potstill label`.

    The folder then holds `labels.db` with every path and `soft_labels.parquet` for training. Killed at any moment and called again,
    it goes on where it was.

        >>> report = potstill.label(
        ...     "task.toml", "texts.jsonl", "out", potstill.LabelConfig(mode="direct", n_paths=2), gold="gold.jsonl"
        ... )
        >>> report.rows[0].probs.keys()
        dict_keys(['bullish', 'bearish', 'neutral'])

    Args:
        task: a task, or its file; of one choice or of several questions.
        texts: a file, a list of strings, a Series, or a DataFrame; what is no file is kept in `out` as `texts.jsonl`.
        out: the folder to write.
        config: mode, number of paths, prompts.
        gold: the same with gold labels, or None; they are labelled too, but for scores only.
        teacher, derive, then, hours, tell: as :func:`potstill.workflows.labelling.label` has them.
        progress: called after every few paths; None: a bar, on a terminal and in a notebook.
    Raises:
        FormatError, UserError, StoppedError: as :func:`potstill.workflows.labelling.label`; or if the texts are in no such form.
    """
    texts, gold = _kept(texts, Path(out), "texts.jsonl"), None if gold is None else _kept(gold, Path(out), "gold.jsonl")
    with _watched(label_progress, progress) as shown:
        return labelling.label(
            task, texts, out, config, gold=gold, teacher=teacher, derive=derive, then=then, hours=hours, progress=shown, tell=tell
        )


def plan(task: AnyTask | str | Path, texts: Any, config: PlanConfig, label: LabelConfig = _LABEL, **options: Any) -> HoursPlan:
    """Say what can be labelled in some hours on this machine; `potstill plan`.

    Args:
        task: a task, or its file.
        texts: a file, a list of strings, a Series, or a DataFrame.
        config, label, options: as :func:`potstill.workflows.planning.plan` has them.
    Raises:
        FormatError, UserError: as :func:`potstill.workflows.planning.plan`; or if the texts are in no such form.
    """
    with _as_file(texts) as file:
        return planning.plan(task, file, config, label, **options)


def distill(
    task: AnyTask | str | Path,
    soft_labels: str | Path,
    checkpoint: str | Path,
    config: TrainConfig = _TRAIN,
    progress: TrainProgress | None = None,
) -> TrainReport | JointReport:
    """Distil soft labels into a student checkpoint, with a bar; otherwise :func:`potstill.train`, with its arguments and errors.

    >>> report = potstill.distill("task.toml", "out/soft_labels.parquet", "student", potstill.TrainConfig(epochs=2, max_tokens=64))
    >>> report.checkpoint.name
    'student'
    """
    with _watched(train_progress, progress) as shown:
        return train_student(task, soft_labels, checkpoint, config, shown)


def evaluate(
    checkpoint: str | Path, gold: Any, config: EvaluateConfig = _EVALUATE, progress: TrainProgress | None = None
) -> SystemComparison | QuestionsComparison:
    """Score a checkpoint on gold labels, next to its bundle, its teacher and baselines; `potstill evaluate`.

        >>> comparison = potstill.evaluate("student", "gold.jsonl", potstill.EvaluateConfig(baselines=("majority",)))
        >>> [system.name for system in comparison.systems]
        ['student', 'majority']

    Args:
        checkpoint: the folder that :func:`distill` wrote.
        gold: texts with gold labels: a file, or a DataFrame with the columns `text` and `gold`.
        config: who else is scored.
        progress: as :func:`distill` has it, where a baseline is trained.
    Raises:
        FormatError, UserError: as :func:`potstill.workflows.evaluation.evaluate`; or if the texts are in no such form.
    """
    with _as_file(gold) as file, _watched(train_progress, progress) as shown:
        return evaluation.evaluate(checkpoint, file, config, shown)


def calibrate(
    checkpoint: str | Path, gold: Any, config: ConfidenceConfig, tell: Callable[[str], None] = lambda _: None
) -> ConfidenceReport | QuestionsConfidence:
    """Choose a checkpoint's thresholds, label sets or both on gold texts; `potstill calibrate`.

    Args:
        checkpoint: the folder that :func:`distill` wrote.
        gold: texts with gold labels that it was not trained on: a file, a list of mappings with the keys `text` and `gold`, or a
            DataFrame with these columns.
        config: the wanted precision or coverage, and of which questions.
        tell: takes a line about texts that were left out.
    Raises:
        FormatError, UserError: as :func:`potstill.workflows.evaluation.calibrate`; or if the texts are in no such form.
    """
    with _as_file(gold) as file:
        return evaluation.calibrate(checkpoint, file, config, tell)


def export_bundle(
    checkpoint: str | Path, bundle: str | Path, config: ExportConfig = _EXPORT, progress: ExportProgress | None = None
) -> ExportReport:
    """Write a checkpoint as a bundle, with a bar; otherwise :func:`potstill.export.run.export_bundle`, with its errors.

    >>> report = potstill.export_bundle("student", "bundle", potstill.ExportConfig(variant="dynamic_int8", min_agreement=0))
    >>> report.manifest.variant
    'dynamic_int8'
    """
    with _watched(step_progress, progress) as shown:
        return export_checkpoint(checkpoint, bundle, config, shown)


def certify(
    bundle: str | Path, gold: Any, out: str | Path | None = None, config: CertifyConfig = _CERTIFY
) -> certifying.CertifyReport:
    """Find how many texts a bundle may answer so that a stated accuracy holds, and write that into it; `potstill certify`.

    Args:
        bundle: the folder.
        gold: texts with gold labels that nothing was fitted to: a file, or a DataFrame with the columns `text` and `gold`.
        out: the folder to write; None replaces the bundle.
        config: what is to be certified.
    Raises:
        FormatError, UserError: as :func:`potstill.certify_bundle`; or if the texts are in no such form.
    """
    with _as_file(gold) as file:
        return certifying.certify_bundle(bundle, file, out, config)


# Texts


def as_texts(rows: Any) -> list[Text]:
    """The texts of a list, an array, a Series or a DataFrame.

    Args:
        rows: strings, :class:`Text`, mappings with the keys of `COLUMNS`, or a table with these columns; others are not read.
    Raises:
        UserError: if it is none of these, a table has no column `text`, a text is no string, or there is no text.
    """
    if hasattr(rows, "columns"):
        names = [str(name) for name in rows.columns]
        if "text" not in names:
            raise UserError(f"the table has the columns {', '.join(names) or 'none'}; one must be 'text'")
        read = [name for name in COLUMNS if name in names]
        rows = [dict(zip(read, row, strict=True)) for row in zip(*(rows[name].tolist() for name in read), strict=True)]
    elif isinstance(rows, bytes | Mapping) or not hasattr(rows, "__iter__"):
        raise UserError(
            f"the texts are of the type {type(rows).__name__}; give a file, a list of strings, or a table with a column 'text'"
        )
    found = [_text(place, row) for place, row in enumerate(rows)]
    if not found:
        raise UserError("there is no text; give at least one")
    return found


def _text(place: int, row: Any) -> Text:
    """One text of a list or a table; absent values of a table (None, NaN) are left out."""
    if isinstance(row, Text):
        return row
    fields = {"text": row} if not isinstance(row, Mapping) else {name: row[name] for name in row if not _is_absent(row[name])}
    if unknown := set(fields) - set(COLUMNS):
        raise UserError(f"text {place} has the key {min(map(repr, unknown))}; allowed: {', '.join(COLUMNS)}")
    if not isinstance(fields.get("text", ""), str):
        raise UserError(f"text {place} is {fields['text']!r}; every text must be a string")
    return Text(**{"text": ""} | {name: value if name == "text" else _words(value) for name, value in fields.items()})


def _words(value: Any) -> str:
    """A value as a file of texts has it: the answers to several questions as JSON, all else in words."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | list) else str(value)


def _is_absent(value: Any) -> bool:
    """Whether it stands for no value in a table: None, or NaN, which differs from itself."""
    return value is None or (isinstance(value, float) and value != value)


def _kept(texts: Any, out: Path, name: str) -> str | Path:
    """A file of the texts: the one that is given, or a new one in the folder."""
    if isinstance(texts, str | Path):
        return texts
    data = write_texts(as_texts(texts))
    out.mkdir(parents=True, exist_ok=True)
    (out / name).write_bytes(data)
    return out / name


@contextmanager
def _as_file(texts: Any) -> Iterator[str | Path]:
    """A file of the texts, which lasts as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="potstill-") as folder:
        yield _kept(texts, Path(folder), "texts.jsonl")


# Progress


@contextmanager
def _watched(bar: Callable[[], AbstractContextManager[Callback]], own: Callback | None) -> Iterator[Callback | None]:
    """The caller's own callback; without one a bar where somebody watches: on a terminal and in a notebook."""
    shown: AbstractContextManager[Callback | None] = bar() if own is None and is_watched() else nullcontext(own)
    with shown as callback:
        yield callback
