"""A student, its bundle, its teacher and baselines, all asked the same gold texts. Axes: N texts, S labels of the student."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.bundle import read_manifest, verify_files
from potstill.contract.checkpoint import Student, read_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.system.machine import usable_cores
from potstill.contract.texts import Text, texts_and_targets
from potstill.labeler.aggregation.path_table import path_logprobs
from potstill.labeler.store.label_store import LabelStore
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.data.training_rows import TrainingRows, read_trained_rows
from potstill.trainer.evaluation.baselines.find import (
    BUILT_IN,
    BaselineInputs,
    built_in_baseline,
    even_note,
    find_ready_made,
    ready_made_baseline,
)
from potstill.trainer.evaluation.comparison import System, SystemComparison, compare
from potstill.trainer.evaluation.evaluate import predict, shifted
from potstill.trainer.evaluation.gold import Gold, TeacherAnswers, read_gold, read_teacher
from potstill.trainer.evaluation.label_map import LabelMap, parse_label_map
from potstill.trainer.report.answers import Rationale, Rationales
from potstill.trainer.training.loop import TrainProgress


@dataclass(frozen=True)
class Sources:
    """Who is to be compared, and on what."""

    checkpoint: Path
    gold: Path
    bundle: Path | None = None
    soft_labels: Path | None = None  # that the student was trained on
    teacher: Path | None = None  # soft labels of the gold texts
    baselines: tuple[str, ...] = ()  # of potstill.trainer.evaluation.baselines.find.BUILT_IN, or folders
    label_map: tuple[str, ...] = ()  # entries for potstill.trainer.evaluation.label_map.parse_label_map
    prior_shift: bool = False  # whether the student is scored a second time, fitted to the texts' own label shares


def evaluation(sources: Sources, progress: TrainProgress | None = None) -> SystemComparison:
    """Everyone's scores on the same texts. Whatever is wrong with a file or a map shows before anything is computed.

    Raises:
        FormatError: if a file or folder is malformed.
        UserError: if the parts do not fit each other, or a baseline cannot be trained.
    """
    with ExitStack() as held:
        student = read_student(sources.checkpoint)
        label_map = parse_label_map(sources.label_map, student.labels)
        others = find_ready_made(list(sources.baselines))
        classifier = held.enter_context(open_bundle(sources.bundle, student)) if sources.bundle else None
        gold = read_gold(sources.gold, student, label_map)
        label_map.check_used({str(sources.gold): gold.names, **{name: each.labels for name, each in others.items()}})
        for each in others.values():
            label_map.resolve(each.labels, str(each.folder))
        taught = read_trained_rows(sources.soft_labels, sources.checkpoint, student) if sources.soft_labels else None
        teacher = read_teacher(sources.teacher, student, gold) if sources.teacher else None
        gold = teacher.gold if teacher else gold
        inputs = BaselineInputs(sources.checkpoint, student, gold, taught, progress)
        probs = predict(sources.checkpoint, gold.texts)
        systems = [_own("student", probs, label_map, _met(gold, taught))]
        if sources.prior_shift:
            systems.append(_own("shifted", shifted(sources.checkpoint, student, probs), label_map, []))
        if teacher:
            systems.append(_teacher(teacher, label_map))
        if classifier:
            systems.append(
                _own("bundle", bundle_answers(classifier, gold.texts, student), label_map, _bundle_notes(classifier, student))
            )
        systems += [built_in_baseline(name, inputs) for name in dict.fromkeys(sources.baselines) if name in BUILT_IN]
        systems += [ready_made_baseline(each, name, gold) for name, each in others.items()]
        return compare(systems, gold)


def bundle_answers(classifier: Classifier, texts: list[Text], student: Student) -> NDArray[np.float64]:
    """float64 [N, S]: what the bundle answers, in the order of the student's labels; each text runs alone."""
    order = [classifier.manifest.labels.index(name) for name in student.labels]
    with ThreadPoolExecutor(usable_cores(), thread_name_prefix="answer") as pool:
        rows = pool.map(lambda text: classifier.probs(*texts_and_targets([text])), texts)
        return np.concatenate(list(rows))[:, order]


def open_bundle(folder: Path, student: Student) -> Classifier:
    """The bundle, which must decide what the student decides."""
    verify_files(folder)
    manifest = read_manifest(folder)
    if set(manifest.labels) != set(student.labels):
        raise FormatError(folder, "labels", f"are {', '.join(manifest.labels)}; the student's are {', '.join(student.labels)}")
    if manifest.target != student.target:
        wanted = "text and target" if student.target else "the text alone"
        raise FormatError(folder, "target", f"is {str(manifest.target).lower()}, but the student reads {wanted}; export it again")
    return Classifier.open(folder)


def _own(name: str, probs: NDArray[np.float64], label_map: LabelMap, notes: list[str]) -> System:
    """Answers over the student's labels, as the map has them scored."""
    scored, n_even = label_map.own(probs)
    return System(name, scored, "; ".join([*notes, *even_note(n_even)]))


def _teacher(teacher: TeacherAnswers, label_map: LabelMap) -> System:
    """The teacher's row."""
    notes = [f"no path could label {teacher.n_unread} of the texts"] if teacher.n_unread else []
    return _own("teacher", teacher.probs, label_map, notes)


def _met(gold: Gold, taught: TrainingRows | None) -> list[str]:
    """How many of the gold texts the student met in training."""
    known = {row.text for row in taught.training} if taught else set()
    n_met = sum(text.text in known for text in gold.texts)
    return [f"{n_met} of the texts are among those it was trained on, with the teacher's labels"] if n_met else []


def _bundle_notes(classifier: Classifier, student: Student) -> list[str]:
    """What kind of bundle it is, and whether it came from this student."""
    made_of = classifier.manifest.provenance
    same = (made_of.soft_labels_digest, made_of.loss) == (student.soft_labels_digest, student.loss)
    return [classifier.manifest.variant, *([] if same else ["exported from another student"])]


def stored_rationales(path: Path, student: Student) -> Rationales:
    """The reasoning of each path of the newest run of the student's task, by text and target; direct answers have none.

    Raises:
        FormatError: if the file is no label store, or damaged.
        UserError: if it holds no run of the student's task.
    """
    with LabelStore.read(path) as store:
        runs = [run for run in store.runs() if run.settings.task_digest == student.task_digest]
        if not runs:
            raise UserError(f"{path}: holds no run of the student's task (digest {student.task_digest[:12]}…); name its own store")
        texts, paths = store.texts(), list(store.paths(runs[-1]))
        settings = runs[-1].settings
    if not paths:
        return {}
    favourites = path_logprobs(paths, settings).argmax(axis=1)
    found: dict[tuple[str, str | None], list[Rationale]] = {}
    for drawn, favourite in zip(paths, favourites, strict=True):
        if not drawn.rationale.strip():
            continue
        text = texts[drawn.text_id]
        said = Rationale(settings.labels[favourite], drawn.rationale)
        found.setdefault((text.text, text.target or None), []).append(said)
    return found
