"""The texts of a label store in memory, with what the teacher said about each: for pages that answer at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from potstill.contract.errors import FormatError
from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire
from potstill.contract.questions.soft_answers import QuestionLabel
from potstill.contract.soft_label import SoftLabel
from potstill.contract.texts import Text
from potstill.labeler.aggregation.questions import derive_questions
from potstill.labeler.aggregation.soft_labels import derive
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.store.questions import labelling, questions_of
from potstill.review.people.answers import ONLY, questions_asked

_EVEN = 0.5  # of a tag: from this probability on it holds


@dataclass(frozen=True)
class TeacherAnswer:
    """What the teacher's paths say about one question of a text."""

    probs: dict[str, float]  # by label, in the task's order; of tags, each has a probability of its own
    agreement: float  # share of the paths that chose the majority label, 0 to 1
    n_paths: int
    entropy: float  # nats

    def labels(self, kind: str) -> list[str]:
        """The labels that the teacher would give: the most probable one, or the tags that rather hold than not."""
        if kind == "tags":
            return [name for name, share in self.probs.items() if share >= _EVEN]
        return [max(self.probs, key=self.probs.__getitem__)]


@dataclass(frozen=True)
class Corpus:
    """The texts of a store, and what one labelling of them says."""

    path: Path  # of the store
    questions: list[Question]
    texts: dict[str, Text]  # by id
    folded: dict[str, str]  # by id, text and target without case, to search in
    answers: dict[str, dict[str, TeacherAnswer]]  # by question and text id
    run: Run
    notes: list[str]  # a line each, about the soft labels

    def question(self, name: str) -> Question | None:
        """The question of that name, None if there is none."""
        return next((question for question in self.questions if question.name == name), None)

    def search(self, words: str, ids: Sequence[str] | None = None) -> list[str]:
        """Ids of the texts that hold all the words, whatever their case; in the order of `ids`, or of the store."""
        found = list(self.texts if ids is None else ids)
        for word in words.casefold().split():  # word by word: the second one is looked for in few texts
            found = [text_id for text_id in found if word in self.folded[text_id]]
        return found


def read_corpus(path: Path, task: AnyTask, run: int | None = None) -> Corpus:
    """Read the texts of a store, and derive what the teacher said about them.

    Args:
        run: number of the run; None: the newest. Of several questions any of their runs.
    Raises:
        FormatError: if the store is damaged, or the task has other questions or labels than the run.
        UserError: if there is no such run, or it has no path.
    """
    with LabelStore.read(path) as store:
        found = store.find_run(run)
        questions = questions_asked(task)
        _check_same(path, task, questions, store, found)
        texts = store.texts()
        answers: dict[str, dict[str, TeacherAnswer]] = {question.name: {} for question in questions}
        if isinstance(task, Questionnaire):
            several = derive_questions(store, found)
            for row in several.rows:
                for name, answer in row.answers.items():
                    if answer is not None:
                        answers[name][row.id] = _answer(answer)
            notes = several.warnings
        else:
            derived = derive(store, found)
            answers[ONLY] = {row.id: _answer(row) for row in derived.rows}
            notes = derived.warnings
    folded = {text_id: f"{text.text} {text.target or ''}".casefold() for text_id, text in texts.items()}
    return Corpus(path, questions, texts, folded, answers, found, notes)


def _answer(label: SoftLabel | QuestionLabel) -> TeacherAnswer:
    """A soft label, without what no page shows."""
    return TeacherAnswer(label.probs, label.agreement, label.n_paths, label.entropy)


def _check_same(path: Path, task: AnyTask, questions: Sequence[Question], store: LabelStore, run: Run) -> None:
    """Check that the run asks what the task asks; raises FormatError."""
    asked = {ONLY: run.settings.labels}
    if run.settings.question:
        asked = {question.name: question.label_names for question in questions_of(labelling(store, run))}
    wanted = {question.name: question.label_names for question in questions}
    if asked != wanted:
        problem = f"asks {_shown(asked)}; the task asks {_shown(wanted)}: give the task that it was labelled for"
        raise FormatError(path, f"run {run.number}", problem)


def _shown(questions: Mapping[str, Sequence[str]]) -> str:
    """`move (up, down), asks (yes, no)`."""
    return ", ".join(f"{name} ({', '.join(labels)})".strip() for name, labels in questions.items())
