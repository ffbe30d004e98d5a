"""Sweep over objectives, minimum agreements and seeds, as in the table of arXiv:2212.11311; validation texts choose the best.

Every measurement is appended to `<checkpoint>.sweep.jsonl` at once, so that a sweep that was stopped goes on.
Axes: N texts, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import decode, digest
from potstill.contract.files.decode import Strict
from potstill.contract.questions.questionnaire import AnyTask
from potstill.contract.scores import metrics
from potstill.contract.soft_label import SoftLabel
from potstill.contract.texts import Text
from potstill.trainer.config import TrainConfig
from potstill.trainer.data import selection
from potstill.trainer.data.answered import one_choice
from potstill.trainer.data.rows import TrainingRows, split_rows
from potstill.trainer.data.targets import majority_classes
from potstill.trainer.evaluation.curves import average_precision, precision_at_recall
from potstill.trainer.students.start import file_digests, find_start
from potstill.trainer.training.loop import TrainProgress
from potstill.trainer.training.losses import OBJECTIVES
from potstill.trainer.training.student import TrainingJob, torch_threads, train_student

SUFFIX = ".sweep.jsonl"
THRESHOLDS = (0.0, 0.5, 5 / 8, 3 / 4, 1.0)
RECALL = 0.5
COLUMNS: dict[str, tuple[str, Callable[[NDArray[np.float64], NDArray[np.int64]], float]]] = {
    "accuracy": ("accuracy", metrics.accuracy),
    "macro_f1": ("macro-F1", metrics.macro_f1),
    "precision": (f"precision at recall {RECALL}", lambda probs, gold: precision_at_recall(probs, gold, RECALL)),
    "area": ("area under P-R", average_precision),
}
CHOSEN_BY = "macro_f1"


class Measurement(Strict):
    """The scores of one student of a sweep."""

    made_of: str  # digest of everything that the cells share
    loss: str
    min_agreement: float
    seed: int
    share: float  # of the training texts: kept
    validation: dict[str, float]  # against the teacher's majority labels
    gold: dict[str, float]  # empty without gold


@dataclass(frozen=True)
class Sweep:
    """All measurements of a sweep."""

    measurements: list[Measurement]
    file: Path

    def best(self) -> tuple[str, float]:
        """(objective, minimum agreement) with the highest mean macro-F1 on the validation texts; gold is not used."""
        return max(self.cells(), key=lambda cell: float(np.mean([m.validation[CHOSEN_BY] for m in self.cells()[cell]])))

    def cells(self) -> dict[tuple[str, float], list[Measurement]]:
        """Measurements by (objective, minimum agreement), in the table's order."""
        cells: dict[tuple[str, float], list[Measurement]] = {}
        for measurement in self.measurements:
            cells.setdefault((measurement.loss, measurement.min_agreement), []).append(measurement)
        return cells

    def as_text(self) -> str:
        """A Markdown table, and the best settings."""
        scored = ["validation", *(["gold"] if self.measurements[0].gold else [])]
        heads = ["objective", "agreement", "kept", *(f"{COLUMNS[name][0]} ({where})" for where in scored for name in COLUMNS)]
        lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
        for (loss, least), students in self.cells().items():
            values = [mean_text([getattr(m, where)[name] for m in students]) for where in scored for name in COLUMNS]
            lines.append(f"| {loss} | {least:g} | {students[0].share:.0%} | " + " | ".join(values) + " |")
        loss, least = self.best()
        return "\n".join([*lines, "", f"best by macro-F1 on the validation texts: --loss {loss} --min-agreement {least:g}"])


def mean_text(values: Sequence[float]) -> str:
    """`0.712 ± 0.021`: mean and half the 95 % interval by Student's t, for one value the mean. Args: values, one a seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3f}"
    half = student_t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{mean:.3f} ± {half:.3f}"


def sweep(
    task: AnyTask,
    soft_labels: str | Path,
    checkpoint: str | Path,
    config: TrainConfig,
    gold: list[Text],
    progress: TrainProgress | None = None,
    *,
    question: str | None = None,
) -> Sweep:
    """Train and score a student for every objective, minimum agreement and seed. No checkpoint is written.

    Args:
        task, soft_labels, progress: as for :func:`potstill.trainer.run.train`.
        checkpoint: gives the name of the file of measurements.
        config: its loss and minimum agreement are replaced; ``seeds`` is the number of seeds.
        gold: texts with a gold label of the task, for the table only.
        question: of several, the one that is swept over; None: the task asks one choice.
    Raises:
        FormatError, UserError: as :func:`potstill.trainer.run.train`, or if the file of measurements is damaged.
    """
    soft_labels, checkpoint = Path(soft_labels), Path(checkpoint)
    task, labelled = one_choice(soft_labels, task, question)
    job = TrainingJob(task, find_start(config), config, progress)
    rows = split_rows(str(soft_labels), labelled, config.validation_share)
    settings = {key: value for key, value in asdict(config).items() if key not in _NOT_MADE_OF}
    made_of = digest.of_value([settings, task.digest, digest.of_file(soft_labels), file_digests(config), gold])
    file = checkpoint.with_name(checkpoint.name + SUFFIX)
    done = {(m.loss, m.min_agreement, m.seed): m for m in _read(file) if m.made_of == made_of}
    measurements = []
    for loss in OBJECTIVES:
        for least, kept in distinct_selections(rows.training):
            for seed in range(config.seed, config.seed + config.seeds):
                if (loss, least, seed) not in done:
                    cell = replace(config, loss=loss, min_agreement=least, seed=seed, seeds=1, precision=None, coverage=None)
                    on_validation, on_gold = _measure(replace(job, config=cell), TrainingRows(kept, rows.validation), gold)
                    done[loss, least, seed] = Measurement(
                        made_of=made_of,
                        loss=loss,
                        min_agreement=least,
                        seed=seed,
                        share=len(kept) / len(rows.training),
                        validation=on_validation,
                        gold=on_gold,
                    )
                    _append(file, done[loss, least, seed])
                measurements.append(done[loss, least, seed])
    return Sweep(measurements, file)


_NOT_MADE_OF = {"loss", "min_agreement", "seed", "seeds", "folds", "teacher_weight", "threads", "save_every"}


def distinct_selections(training: list[SoftLabel]) -> list[tuple[float, list[SoftLabel]]]:
    """(minimum agreement, rows kept) of the thresholds that keep different rows; raises UserError if none keeps two labels."""
    found: list[tuple[float, list[SoftLabel]]] = []
    for least in THRESHOLDS:
        kept = selection.by_agreement(training, least).kept
        if len({row.majority for row in kept}) > 1 and (not found or len(kept) < len(found[-1][1])):
            found.append((least, kept))
    if not found:
        raise UserError(
            "the training texts have fewer than two majority labels, but a student needs at least two; check the labels"
        )
    return found


def _measure(job: TrainingJob, rows: TrainingRows, gold: list[Text]) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of one student on the validation texts and on the gold texts."""
    labels = job.task.label_names
    with torch_threads(job.config.threads):
        student = train_student(job, rows)

        def scores(texts: list[tuple[str, str | None]], wanted: NDArray[np.int64]) -> dict[str, float]:
            probs = student.probs(texts)
            return {name: measure(probs, wanted) for name, (_, measure) in COLUMNS.items()}

        on_validation = scores([(row.text, row.target) for row in rows.validation], majority_classes(rows.validation, labels))
        if not gold:
            return on_validation, {}
        classes = np.array([labels.index(text.gold or "") for text in gold], dtype=np.int64)
        return on_validation, scores([(text.text, text.target) for text in gold], classes)


def _read(file: Path) -> list[Measurement]:
    """Read the measurements so far; an incomplete last line is ignored."""
    if not file.exists():
        return []
    lines = decode.read_bytes(file).split(b"\n")
    try:
        return [msgspec.json.decode(line, type=Measurement) for line in lines[:-1] if line.strip()]
    except msgspec.MsgspecError as error:
        raise FormatError(file, "", f"is not a file of measurements ({error}); remove it to start over") from error


def _append(file: Path, measurement: Measurement) -> None:
    """Append a line, in place of an incomplete one."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        data = file.read_bytes() if file.exists() else b""
        with file.open("r+b" if data else "wb") as out:
            out.truncate(data.rfind(b"\n") + 1)
            out.seek(0, 2)
            out.write(msgspec.json.encode(measurement) + b"\n")
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror}); free some space or choose another place") from error
