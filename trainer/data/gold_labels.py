"""Gold labels among the soft labels that a student is trained on: only where `--use-gold` asks for it, and it is written down.

A held-out text keeps the teacher's label: it is what the student is chosen, calibrated and compared by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.checkpoint import GOLD_ROWS_FILE, GoldUse, PeopleRight, Student, UsedGold
from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire
from potstill.contract.questions.soft_answers import QuestionLabel, SoftAnswers, read_soft_answers
from potstill.contract.soft_label import SoftLabel, entropy, read_soft_labels
from potstill.contract.texts import Text, read_texts, text_id
from potstill.trainer.data.answered import was_read
from potstill.trainer.data.reliability import after_people, how_often_right, weighed
from potstill.trainer.data.selection import is_validation

METHOD = "gold"  # of a label that people alone gave; and ends the method of one that is the teacher's, too
Given = Mapping[str, Sequence[str]]  # labels by question; of a task of one choice the question is ""
_Row = TypeVar("_Row", SoftLabel, SoftAnswers)


@dataclass(frozen=True)
class GoldLabels:
    """The texts of a file, and what people said of each."""

    path: Path
    texts: list[Text]
    given: list[Given]  # by text
    how: GoldUse
    right: float | None = None  # how often people are right, where that is stated; for weighing


def read_gold_labels(path: Path, task: AnyTask, how: GoldUse, right: float | None = None) -> GoldLabels:
    """Read a file of gold texts for training; raises FormatError if it is malformed, or a label does not fit the task."""
    if isinstance(task, Questionnaire):
        read = read_texts(path, target=task.input.target, gold=True)
        given: list[Given] = [parse_gold(path, f"text {text.id!r}", task.questions, text.gold) for text in read.texts]
    else:
        read = read_texts(path, labels=task.label_names, target=task.input.target, gold=True)
        given = [{"": [text.gold or ""]} for text in read.texts]
    return GoldLabels(path, read.texts, given, how, right)


def labels_with_gold(rows: list[SoftLabel], gold: GoldLabels, share: float) -> tuple[list[SoftLabel], list[SoftLabel], UsedGold]:
    """(all rows, those with a gold label, what was done).

    Args:
        share: of distinct texts that are held out, 0 to 1.
    Raises:
        UserError: if all gold texts are held out, or people are stated to be right no more often than chance.
    """
    right = _right_by_question([("", _label_of(row), row) for row in rows], gold, share, {"": list(rows[0].probs)}, frozenset())

    def changed(row: SoftLabel, given: Given) -> SoftLabel:
        label = _with_gold(_label_of(row), given[""], gold.how, right.get(""), tags=False)
        return msgspec.structs.replace(row, **_fields(label))

    def new(text: Text, name: str, given: Given) -> SoftLabel:
        label = _gold_alone(list(rows[0].probs), given[""], right.get(""), tags=False)
        digests: dict[str, Any] = {"teacher_digest": rows[0].teacher_digest, "task_digest": rows[0].task_digest}
        return SoftLabel(id=name, text=text.text, target=text.target, **_fields(label), **digests)

    made, touched, used = _merge(rows, gold, share, (changed, new))
    return made, touched, msgspec.structs.replace(used, right=right or None)


def answers_with_gold(
    rows: list[SoftAnswers], gold: GoldLabels, share: float, questions: Sequence[Question]
) -> tuple[list[SoftAnswers], list[SoftAnswers], UsedGold]:
    """The same for several questions; a question without a gold answer keeps the teacher's."""
    kinds = {question.name: question for question in questions}
    tagged = frozenset(name for name, question in kinds.items() if question.kind == "tags")
    said_of = [(name, label, row) for row in rows for name, label in row.answers.items() if label is not None]
    right = _right_by_question(said_of, gold, share, {name: question.label_names for name, question in kinds.items()}, tagged)

    def changed(row: SoftAnswers, given: Given) -> SoftAnswers:
        answers = dict(row.answers)
        for name, labels in given.items():
            tags, said = name in tagged, answers.get(name)
            if said is None:
                answers[name] = _gold_alone(kinds[name].label_names, labels, right.get(name), tags=tags)
            else:
                answers[name] = _with_gold(said, labels, gold.how, right.get(name), tags=tags)
        return msgspec.structs.replace(row, answers=answers)

    def new(text: Text, name: str, given: Given) -> SoftAnswers:
        digests: dict[str, Any] = {"teacher_digest": rows[0].teacher_digest, "task_digest": rows[0].task_digest}
        return changed(SoftAnswers(id=name, text=text.text, target=text.target, answers=dict.fromkeys(kinds), **digests), given)

    made, touched, used = _merge(rows, gold, share, (changed, new))
    return made, touched, msgspec.structs.replace(used, right=right or None)


def _merge(
    rows: list[_Row], gold: GoldLabels, share: float, make: tuple[Callable[[_Row, Given], _Row], Callable[[Text, str, Given], _Row]]
) -> tuple[list[_Row], list[_Row], UsedGold]:
    """The rows in their order, and new ones behind them. Args: make, (a row changed by gold, a row of gold alone)."""
    changed, new = make
    wanted = {(text.text, text.target): given for text, given in zip(gold.texts, gold.given, strict=True) if given}
    training = {about: given for about, given in wanted.items() if not is_validation(about[0], share)}
    if not training:
        raise UserError(
            f"{gold.path}: all {len(wanted)} texts with a gold label are held out, so none would be trained on; add more"
        )
    made: list[_Row] = []
    touched: list[_Row] = []
    met = set()
    for row in rows:
        about = (row.text, row.target or None)
        if about in training:
            met.add(about)
            row = changed(row, training[about])
            touched.append(row)
        made.append(row)
    ids = {row.id for row in rows}
    for text in gold.texts:
        about = (text.text, text.target)
        if about in training and about not in met:
            row = new(text, text_id(*about) if text.id in ids else text.id, training[about])
            touched.append(row)
            made.append(row)
    return made, touched, UsedGold(
        how=gold.how, file_digest=digest.of_path(gold.path), n_changed=len(met), n_new=len(training) - len(met),
        n_held_out=len(wanted) - len(training),
    )  # fmt: skip


def _gold_alone(names: list[str], given: Sequence[str], right: PeopleRight | None, *, tags: bool) -> QuestionLabel:
    """What one person said, as a soft label of one vote. Args: right, where it is weighed, else None."""
    votes = {name: int(name in given) for name in names}
    if right is None:
        probs, spread = {name: float(vote) for name, vote in votes.items()}, 0.0
    else:  # beside a teacher who says nothing
        cases = _cases(dict.fromkeys(names, 0.5 if tags else 1 / len(names)), given, tags=tags)
        probs = _by_name(names, after_people(*_arrays(cases), right), tags=tags)
        spread = _spread(probs, tags=tags)
    return QuestionLabel(probs=probs, votes=votes, agreement=1.0, n_paths=1, entropy=spread, label_mass=1.0, method=METHOD)


def _with_gold(said: QuestionLabel, given: Sequence[str], how: GoldUse, right: PeopleRight | None, *, tags: bool) -> QuestionLabel:
    """A soft label with a person's in its place, with a person who counts as much as all paths together, or weighed by evidence.

    Weighed or replaced, all votes go to what is now most probable, so that the text is trained on whatever its paths' agreement:
    how sure the label is, its probabilities say.
    """
    if right is not None and not was_read(said):  # no path could be read, so its probabilities say nothing
        alone = _gold_alone(list(said.probs), given, right, tags=tags)
    elif right is not None:
        probs = _weighed(said.probs, given, right, tags=tags)
        first = [name for name, p in probs.items() if p >= 0.5] if tags else [max(probs, key=probs.__getitem__)]
        alone = _gold_alone(list(probs), first, None, tags=tags)
        alone = msgspec.structs.replace(alone, probs=probs, entropy=_spread(probs, tags=tags))
    else:
        alone = _gold_alone(list(said.probs), given, None, tags=tags)
    n_paths, method = max(1, said.n_paths), f"{said.method}+{METHOD}"
    if how != "join":
        votes = {name: vote * n_paths for name, vote in alone.votes.items()}
        return msgspec.structs.replace(alone, votes=votes, n_paths=n_paths, label_mass=said.label_mass, method=method)
    probs = {name: (p + alone.probs[name]) / 2 for name, p in said.probs.items()}
    votes = {name: n + alone.votes[name] * n_paths for name, n in said.votes.items()}
    if tags:
        agreement = sum(max(n, 2 * n_paths - n) for n in votes.values()) / (2 * n_paths * len(votes))
    else:
        agreement = max(votes.values()) / (2 * n_paths)
    return QuestionLabel(
        probs=probs, votes=votes, agreement=agreement, n_paths=2 * n_paths, entropy=_spread(probs, tags=tags),
        label_mass=said.label_mass, method=method,
    )  # fmt: skip


def _spread(probs: Mapping[str, float], *, tags: bool) -> float:
    """Entropy in nats; of tags, the sum over them."""
    return sum(entropy([p, 1 - p]) for p in probs.values()) if tags else entropy(list(probs.values()))


# --- people's labels as evidence


def _right_by_question(
    said: Sequence[tuple[str, QuestionLabel, SoftLabel | SoftAnswers]],
    gold: GoldLabels,
    share: float,
    labels: Mapping[str, list[str]],
    tagged: frozenset[str],
) -> dict[str, PeopleRight]:
    """How often people are right, by question they answered; empty where labels are not weighed. Held-out texts are not looked at.

    Args:
        said: (question, what the teacher says, the row it stands in).
        labels: of each question, in output order.
        tagged: the questions about tags.
    """
    if gold.how != "weigh":
        return {}
    given = {(text.text, text.target): one for text, one in zip(gold.texts, gold.given, strict=True)}
    given = {about: one for about, one in given.items() if not is_validation(about[0], share)}
    compared: dict[str, list[tuple[list[float], int]]] = {name: [] for one in given.values() for name in one}
    for name, label, row in said:
        answer = given.get((row.text, row.target or None), {}).get(name)
        if answer is not None and was_read(label):
            compared[name] += _cases(label.probs, answer, tags=name in tagged)
    found = {}
    for name, names in labels.items():
        if name in compared:
            n_labels = 2 if name in tagged else len(names)
            if gold.right is not None and gold.right * n_labels <= 1:
                raise UserError(_no_better_than_chance(name, n_labels, gold.right))
            teacher, named = _arrays(compared[name])
            found[name] = how_often_right(teacher.reshape(-1, n_labels), named, gold.right)
    return found


def _no_better_than_chance(question: str, n_labels: int, right: float) -> str:
    """What to say of a stated share that would turn labels into evidence against themselves."""
    what = f"question {question!r}" if question else "the task"
    chance = f"chance is right as often where {what} has {n_labels} labels"
    return f"gold_right is {right:g}, but {chance}; give more than {1 / n_labels:.3g}"


def _cases(probs: Mapping[str, float], given: Sequence[str], *, tags: bool) -> list[tuple[list[float], int]]:
    """(probabilities, the place that a person named); of tags one for each, as (holds, does not)."""
    if tags:
        return [([p, 1 - p], int(name not in given)) for name, p in probs.items()]
    return [(list(probs.values()), list(probs).index(given[0]))]


def _weighed(probs: Mapping[str, float], given: Sequence[str], right: PeopleRight, *, tags: bool) -> dict[str, float]:
    """What a teacher's probabilities and a person's answer say together, by label."""
    return _by_name(list(probs), weighed(*_arrays(_cases(probs, given, tags=tags)), right), tags=tags)


def _arrays(cases: Sequence[tuple[list[float], int]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(probabilities float [n, C], places int [n])."""
    return np.array([probs for probs, _ in cases], dtype=np.float64), np.array([place for _, place in cases], dtype=np.int64)


def _by_name(names: Sequence[str], found: NDArray[np.float64], *, tags: bool) -> dict[str, float]:
    """Probabilities by label; of tags those that each holds. Args: found, float [1, C], of tags [C, 2]."""
    return dict(zip(names, (found[:, 0] if tags else found[0]).tolist(), strict=True))


def _label_of(row: SoftLabel) -> QuestionLabel:
    """What a row of one question says, as that of one among several."""
    return QuestionLabel(**{name: getattr(row, name) for name in QuestionLabel.__struct_fields__})


def _fields(label: QuestionLabel) -> dict[str, Any]:
    """The fields of a soft label that a row of one question has, too."""
    return {name: getattr(label, name) for name in QuestionLabel.__struct_fields__}


def trained_gold(checkpoint: Path, student: Student, questions: Sequence[Question] = ()) -> set[tuple[str, str | None]]:
    """(text, target) of those that a student was trained on with a gold label; scores on them would flatter it.

    Args:
        questions: of the task, where the student answers several.
    Raises:
        FormatError: if the checkpoint lacks its file of them, or it is malformed.
    """
    if student.used_gold is None:
        return set()
    path = checkpoint / GOLD_ROWS_FILE
    rows: Sequence[SoftLabel | SoftAnswers] = (
        read_soft_labels(path, labels=student.labels) if student.heads is None else read_soft_answers(path, questions)
    )
    return {(row.text, row.target or None) for row in rows}


def left_out_line(n_known: int, n: int) -> str:
    """A note on gold texts that are not scored."""
    return f"left out {n_known} of {n} gold texts: the student was trained on them with their gold labels"
