"""A student, its bundle, its teacher and baselines, all scored on the same gold texts. Axes: N texts, S labels of the student."""

from __future__ import annotations

from collections.abc import Callable
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
from potstill.contract.system.progress import ANSWER_TEXTS, counted
from potstill.contract.texts import Text, read_texts, texts_and_targets
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.calibrate_on_gold import (
    ConfidenceConfig,
    ConfidenceReport,
    QuestionsConfidence,
    calibrate_on_gold,
    calibrate_questions_on_gold,
)
from potstill.trainer.data.gold_labels import left_out_line, trained_gold
from potstill.trainer.data.rows import TrainingRows, read_trained_rows
from potstill.trainer.evaluation.baselines.find import (
    BUILT_IN,
    BaselineInputs,
    built_in_baseline,
    even_note,
    find_ready_made,
    ready_made_baseline,
)
from potstill.trainer.evaluation.checkpoint_scores import predict, shifted
from potstill.trainer.evaluation.comparison import System, SystemComparison, compare
from potstill.trainer.evaluation.gold import Gold, TeacherAnswers, read_gold, read_teacher
from potstill.trainer.evaluation.label_map import LabelMap, parse_label_map
from potstill.trainer.evaluation.questions import (
    AnsweringSystem,
    QuestionsComparison,
    compare_questions,
    read_gold_answers,
    student_answers,
    teacher_answers,
)
from potstill.trainer.training.loop import TrainProgress


@dataclass(frozen=True)
class EvaluateConfig:
    """Who is scored beside the student, and how."""

    bundle: str | Path | None = None
    trust: bool = False  # open the bundle whatever operators and tokenizer parts are in it
    teacher: str | Path | None = None  # the teacher's soft labels of the gold texts
    soft_labels: str | Path | None = None  # those that the student was trained on
    baselines: tuple[str, ...] = ()  # majority, tfidf, gold, or folders of ready-made classifiers
    label_map: tuple[str, ...] = ()  # NAME=LABEL: what a label of gold or of another classifier stands for; NAME= leaves it out
    prior_shift: bool = False  # whether the student is scored a second time, adapted to the texts' own label shares


_EVALUATE = EvaluateConfig()


def evaluate(
    checkpoint: str | Path, gold: str | Path, config: EvaluateConfig = _EVALUATE, progress: TrainProgress | None = None
) -> SystemComparison | QuestionsComparison:
    """Score a checkpoint on gold labels, next to its bundle, its teacher and baselines; `potstill evaluate`.

    Everybody answers the same texts. Whatever is wrong with a file or a map shows before anything is computed. A student of several
    questions is scored on each, by its kind; baselines, maps and a prior shift are for one choice.

        >>> comparison = potstill.evaluate("student", "gold.jsonl", potstill.EvaluateConfig(baselines=("majority",)))
        >>> [system.name for system in comparison.systems]
        ['student', 'majority']

    Args:
        checkpoint: the folder that :func:`potstill.train` wrote.
        gold: a file of texts with gold labels.
        config: who else is scored.
        progress: called with (stage, steps done, steps planned, loss of the step) where a baseline is trained.
    Raises:
        FormatError: if a file or folder is malformed.
        UserError: if the parts do not fit each other, or a baseline cannot be trained.
    """
    checkpoint, gold_file = Path(checkpoint), Path(gold)
    with ExitStack() as held:
        student = read_student(checkpoint)
        if student.heads is not None:
            return _evaluate_questions(checkpoint, student, gold_file, config)
        label_map = parse_label_map(config.label_map, student.labels)
        others = find_ready_made(list(config.baselines))
        classifier = held.enter_context(open_bundle(Path(config.bundle), student, trust=config.trust)) if config.bundle else None
        texts = _unseen(read_gold(gold_file, student, label_map), trained_gold(checkpoint, student))
        label_map.check_used({str(gold_file): texts.names, **{name: each.labels for name, each in others.items()}})
        for each in others.values():
            label_map.resolve(each.labels, str(each.folder))
        taught = read_trained_rows(Path(config.soft_labels), checkpoint, student) if config.soft_labels else None
        teacher = read_teacher(Path(config.teacher), student, texts) if config.teacher else None
        texts = teacher.gold if teacher else texts
        inputs = BaselineInputs(checkpoint, student, texts, taught, progress)
        probs = predict(checkpoint, texts.texts)
        systems = [_own("student", probs, label_map, _met(texts, taught))]
        if config.prior_shift:
            systems.append(_own("shifted", shifted(checkpoint, student, probs), label_map, []))
        if teacher:
            systems.append(_teacher(teacher, label_map))
        if classifier:
            answers = bundle_answers(classifier, texts.texts, student)
            systems.append(_own("bundle", answers, label_map, _bundle_notes(classifier, student)))
        systems += [built_in_baseline(name, inputs) for name in dict.fromkeys(config.baselines) if name in BUILT_IN]
        systems += [ready_made_baseline(each, name, texts) for name, each in others.items()]
        return compare(systems, texts)


def _evaluate_questions(checkpoint: Path, student: Student, gold_file: Path, config: EvaluateConfig) -> QuestionsComparison:
    """Score a student of several questions, next to its bundle and its teacher; raises as :func:`evaluate`."""
    for name, given in (("--baseline", config.baselines), ("--map", config.label_map), ("--prior-shift", config.prior_shift)):
        if given:
            raise UserError(f"{checkpoint}: answers several questions, and {name} is for a student of one choice; leave it out")
    gold = read_gold_answers(gold_file, checkpoint, student)
    gold = gold.without(trained_gold(checkpoint, student, gold.task.questions))
    teacher = [teacher_answers(Path(config.teacher), student, gold)] if config.teacher else []
    with ExitStack() as held:
        bundle = held.enter_context(open_bundle(Path(config.bundle), student)) if config.bundle else None
        systems = [AnsweringSystem("student", student.heads or [], student_answers(checkpoint, student, gold.texts)), *teacher]
        if bundle is not None:
            notes = "; ".join(_bundle_notes(bundle, student))
            answers = bundle_answers(bundle, gold.texts, student)
            systems.append(AnsweringSystem("bundle", bundle.manifest.heads or [], answers, notes))
        return compare_questions(systems, gold)


def calibrate(
    checkpoint: str | Path, gold: str | Path, config: ConfidenceConfig, tell: Callable[[str], None] = lambda _: None
) -> ConfidenceReport | QuestionsConfidence:
    """Choose a checkpoint's thresholds, label sets or both on a file of gold texts; `potstill calibrate`.

    Args:
        gold: a file of texts with gold labels, of several questions to some of them; none of the texts was trained on.
        config: the wanted precision or coverage, and of which questions.
        tell: takes a line about rows of the file that were skipped.
    Raises:
        FormatError, UserError: as the functions of :mod:`potstill.trainer.calibrate_on_gold`; or if the file is malformed.
    """
    checkpoint = Path(checkpoint)
    student = read_student(checkpoint)
    if student.heads is not None:
        return calibrate_questions_on_gold(checkpoint, student, read_gold_answers(Path(gold), checkpoint, student), config)
    return calibrate_on_gold(checkpoint, read_gold_texts(gold, checkpoint, student, tell), config)


def read_gold_texts(file: str | Path, checkpoint: Path, student: Student, tell: Callable[[str], None]) -> list[Text]:
    """The texts of a file with a gold label of the student each, but those that it was trained on with it.

    Raises:
        FormatError: if the file is malformed.
        UserError: if no text is left.
    """
    read = read_texts(file, labels=student.labels, target=student.target, gold=True)
    if line := read.skipped_line():
        tell(line)
    known = trained_gold(checkpoint, student)
    texts = [text for text in read.texts if (text.text, text.target) not in known]
    if len(texts) < len(read.texts):
        line = left_out_line(len(read.texts) - len(texts), len(read.texts))
        if not texts:
            raise UserError(f"{file}: {line}; give other gold texts")
        tell(line)
    return texts


def _unseen(gold: Gold, known: set[tuple[str, str | None]]) -> Gold:
    """Gold texts without those that the student was trained on with their gold label; raises UserError if none is left."""
    places = [i for i, text in enumerate(gold.texts) if (text.text, text.target) not in known]
    if len(places) == len(gold.texts):
        return gold
    note = left_out_line(len(gold.texts) - len(places), len(gold.texts))
    if not places:
        raise UserError(f"{gold.path}: {note}; give other gold texts")
    return gold.only(places, note)


def bundle_answers(classifier: Classifier, texts: list[Text], student: Student) -> NDArray[np.float64]:
    """The bundle's probabilities, float64 [N, S] in the order of the student's labels; each text runs alone."""
    order = [classifier.manifest.labels.index(name) for name in student.labels]
    with ThreadPoolExecutor(usable_cores(), thread_name_prefix="answer") as pool:
        rows = pool.map(lambda text: classifier.probs(*texts_and_targets([text])), texts)
        return np.concatenate(list(counted(rows, ANSWER_TEXTS, len(texts))))[:, order]


def open_bundle(folder: Path, student: Student, *, trust: bool = False) -> Classifier:
    """Open a bundle. Args: trust, as `Classifier.open` has it.

    Raises:
        FormatError: if it decides between other labels than the student, or reads another input.
    """
    verify_files(folder)
    manifest = read_manifest(folder)
    if set(manifest.labels) != set(student.labels) or (manifest.heads is None) != (student.heads is None):
        raise FormatError(folder, "labels", f"are {', '.join(manifest.labels)}; the student's are {', '.join(student.labels)}")
    if manifest.target != student.target:
        wanted = "text and target" if student.target else "the text alone"
        raise FormatError(folder, "target", f"is {str(manifest.target).lower()}, but the student reads {wanted}; export it again")
    return Classifier.open(folder, trust=trust)


def _own(name: str, probs: NDArray[np.float64], label_map: LabelMap, notes: list[str]) -> System:
    """A system that answers over the student's labels, scored as the map says."""
    scored, n_even = label_map.own(probs)
    return System(name, scored, "; ".join([*notes, *even_note(n_even)]))


def _teacher(teacher: TeacherAnswers, label_map: LabelMap) -> System:
    """The teacher as a system."""
    notes = [f"no path could label {teacher.n_unread} of the texts"] if teacher.n_unread else []
    return _own("teacher", teacher.probs, label_map, notes)


def _met(gold: Gold, taught: TrainingRows | None) -> list[str]:
    """A line about gold texts that the student was trained on, where there are any."""
    known = {row.text for row in taught.training} if taught else set()
    n_met = sum(text.text in known for text in gold.texts)
    return [f"{n_met} of the texts are among those it was trained on, with the teacher's labels"] if n_met else []


def _bundle_notes(classifier: Classifier, student: Student) -> list[str]:
    """The bundle's variant, and a warning where it was exported from another student."""
    made_of = classifier.manifest.provenance
    same = (made_of.soft_labels_digest, made_of.loss) == (student.soft_labels_digest, student.loss)
    return [classifier.manifest.variant, *([] if same else ["exported from another student"])]
