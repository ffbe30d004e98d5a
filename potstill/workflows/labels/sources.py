"""The sources of a combination, each read from where it is: stores, files, functions, bundles, prototypes and people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import digest
from potstill.contract.soft_label import SoftLabel
from potstill.contract.system.progress import ANSWER_TEXTS, tell_progress
from potstill.contract.task import Task
from potstill.contract.texts import Text, read_texts, texts_and_targets
from potstill.labeler.aggregation import soft_labels as derivation
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.surroundings import TextSpace
from potstill.labeler.aggregation.soft_labels import Derived
from potstill.labeler.encoder_at_hand import check_embedding_libraries
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.store.people import stored_decisions
from potstill.labeler.weak_supervision.config import EXAMPLES
from potstill.labeler.weak_supervision.figures import TEACHER
from potstill.labeler.weak_supervision.sources.answers import answer_votes
from potstill.labeler.weak_supervision.sources.prototypes import prototype_votes
from potstill.labeler.weak_supervision.sources.rules import Vote, function_votes, rule_votes
from potstill.labeler.weak_supervision.votes import SourceVotes, VoteTable, source_votes, vote_table
from potstill.review.people.answers import ONLY
from potstill.review.people.decided import Decided

NOT_OF_PROJECTS = ("run", "gold")  # settings that a project has no use for: it has one run, and its own gold


@dataclass(frozen=True)
class SourceConfig:
    """Which sources vote beside the teacher and the task's rules. Files may be given as NAME=FILE; stores as FILE@RUN, too.

    A source without a name is called as its file is, and a store as its folder is.
    """

    run: int | None = None  # of the teacher; None: the newest
    stores: tuple[str, ...] = ()  # label stores of other teachers, or other runs of the same store
    answers: tuple[str, ...] = ()  # files of answers, or soft labels
    bundles: tuple[str, ...] = ()  # ready-made classifiers
    functions: str | None = None  # a Python file of labelling functions
    prototypes: str | None = None  # a file of texts with gold labels, or `examples`; None: no prototypes
    people: bool = False  # what people decided in `potstill review`; each person is a source
    gold: str | None = None  # a file of texts with gold labels, which vote nowhere: for scores only

    def below(self, folder: Path) -> SourceConfig:
        """The same sources with their files below a folder, unless they are absolute."""

        def placed(values: tuple[str, ...]) -> tuple[str, ...]:
            named = [value.rpartition("=") for value in values]
            return tuple(f"{name}{equals}{folder / file}" for name, equals, file in named)

        prototypes = self.prototypes
        return replace(
            self,
            stores=placed(self.stores),
            answers=placed(self.answers),
            bundles=placed(self.bundles),
            functions=self.functions and str(folder / self.functions),
            prototypes=prototypes if prototypes in (None, EXAMPLES) else str(folder / str(prototypes)),
        )

    def described(self, store: Path) -> list[Any]:
        """What decides the sources' votes: the settings, the digests of all files, and how much people have decided in the store.

        Raises:
            UserError: if a file is missing.
        """
        files = [_named(value)[1] for value in (*self.answers, *self.bundles)]
        files += [_other_teacher(value).store for value in self.stores]
        files += [Path(self.functions)] if self.functions else []
        files += [Path(self.prototypes)] if self.prototypes and self.prototypes != EXAMPLES else []
        for file in files:
            if not file.exists():
                raise FormatError(file, "", "no such file or folder; check [combine] in the project")
        decided = 0
        if self.people:
            with LabelStore.read(store) as opened:
                decided = len(stored_decisions(opened))
        return [msgspec.to_builtins(self), [digest.of_path(file) for file in files], decided]


@dataclass(frozen=True)
class Gathered:
    """The votes of all sources, and what each teacher alone says."""

    votes: VoteTable
    alone: dict[str, dict[str, SoftLabel]]  # by teacher and text id: its own soft labels, refined if the combination will be
    warnings: list[str]  # about the teachers' soft labels


def gathered(task: Task, path: Path, store: Path, config: SourceConfig, derive: DeriveConfig, space: TextSpace) -> Gathered:
    """Read every source's votes on the texts of a store's run.

    A teacher's votes are not refined by other texts: the combination is, once.

    Args:
        task: a task of one choice, with its rules.
        path: its file, for messages.
        store: the teacher's label store.
        config: the sources.
        derive: how paths become soft labels of a teacher alone.
        space: where embeddings of the texts are kept.
    Raises:
        FormatError: if a file is missing, damaged or malformed, or was made for other labels.
        UserError: if there is no such run, or no source votes.
    """
    labels = task.label_names
    teachers = [_Teacher(TEACHER, store, config.run), *(_other_teacher(value) for value in config.stores)]
    read = {teacher.name: _derived(path, task, teacher, derive, space) for teacher in teachers}
    texts = [_with_gold(row) for row in read[TEACHER][0].rows]
    if config.gold is not None:
        texts = _scored(texts, read_texts(config.gold, labels=labels, target=task.input.target, gold=True).texts, config)
    sources = [source_votes(name, "teacher", texts, labels, _distributions(votes.rows)) for name, (votes, _) in read.items()]
    sources += rule_votes(task.rules, texts, labels)
    sources += function_votes(Path(config.functions), texts, labels) if config.functions else []
    sources += [answer_votes(name, file, texts, labels) for name, file in map(_named, config.answers)]
    sources += [_bundle_votes(name, folder, texts, labels) for name, folder in map(_named, config.bundles)]
    sources += [_prototypes(task, config.prototypes, texts, space)] if config.prototypes else []
    sources += _people(store, texts, labels) if config.people else []
    return Gathered(
        vote_table(texts, labels, sources),
        {name: {row.id: row for row in alone.rows} for name, (_, alone) in read.items()},
        [f"{name}: {line}" for name, (_, alone) in read.items() for line in alone.warnings],
    )


@dataclass(frozen=True)
class _Teacher:
    """A run of a label store."""

    name: str
    store: Path
    run: int | None  # None: the newest


def _derived(path: Path, task: Task, teacher: _Teacher, derive: DeriveConfig, space: TextSpace) -> tuple[Derived, Derived]:
    """A teacher's votes, and what it says alone; raises FormatError or UserError. Args: as those of :func:`gathered`."""
    with LabelStore.read(teacher.store) as opened:
        run = opened.find_run(teacher.run)
        check_run(path, task, teacher.store, run)
        votes = derivation.derive(opened, run, replace(derive, refine="off"))
        return votes, votes if derive.refine == "off" else derivation.derive(opened, run, derive, space=space)


def check_run(path: Path, task: Task, store: Path, run: Run) -> None:
    """Check that a run was labelled for the task's labels; raises FormatError or UserError."""
    if run.settings.question:
        raise UserError(
            f"{store}: run {run.number} asks one of several questions ({run.settings.question}); sources are combined "
            "for tasks of one choice: label that question as a task of its own, or take the soft labels of potstill labels derive"
        )
    if run.settings.labels != task.label_names:
        found, wanted = ", ".join(task.label_names), ", ".join(run.settings.labels)
        raise FormatError(
            path, "labels", f"are {found}; those of run {run.number} of {store} are {wanted}: give the task of that run"
        )


def _with_gold(row: SoftLabel) -> Text:
    """The text of a soft label."""
    return Text(row.text, row.id, row.target, row.gold)


def _distributions(rows: list[SoftLabel]) -> dict[str, Vote]:
    """A teacher's soft labels as votes, by text id."""
    return {row.id: dict(row.probs) for row in rows}


def _scored(texts: list[Text], gold: list[Text], config: SourceConfig) -> list[Text]:
    """The texts with the gold labels of a file, found by id, else by text and target; raises FormatError if there is none."""
    by_id = {text.id: text for text in gold}
    by_text = {(text.text, text.target): text for text in gold}
    found, n_found = [], 0
    for text in texts:
        other = by_id.get(text.id)
        if other is None or (other.text, other.target) != (text.text, text.target):
            other = by_text.get((text.text, text.target))
        n_found += other is not None
        found.append(text if other is None else Text(text.text, text.id, text.target, other.gold))
    if not n_found:
        raise FormatError(
            config.gold or "", "", f"has none of the {len(texts)} texts; give gold labels of texts that were labelled"
        )
    return found


def _named(value: str) -> tuple[str, Path]:
    """(name, path) of `NAME=FILE`, or of a path alone, whose name without its suffix is taken."""
    name, equals, file = value.partition("=")
    if equals and name.strip() and not Path(value).exists():
        return name.strip(), Path(file)
    path = Path(value)
    return path.stem or path.name, path


def _other_teacher(value: str) -> _Teacher:
    """The teacher that `FILE`, `NAME=FILE` or `FILE@RUN` stands for; without a name it is called as its folder is."""
    name, file = _named(value)
    place, at, number = str(file).rpartition("@")
    run = int(number) if at and number.isdigit() and not file.exists() else None
    path = Path(place) if run is not None else file
    if not value.startswith(f"{name}="):
        name = path.resolve().parent.name + ("" if run is None else f"@{run}")
    return _Teacher(name, path, run)


def _bundle_votes(name: str, folder: Path, texts: list[Text], labels: list[str]) -> SourceVotes:
    """The answers of a bundle; where it abstains, so does the source. Raises FormatError if it answers other labels."""
    from potstill.serve.runtime.classifier import Classifier  # onnxruntime is loaded only here

    with Classifier.open(folder) as classifier:
        if classifier.manifest.heads is not None or sorted(classifier.manifest.labels) != sorted(labels):
            found = "several questions" if classifier.manifest.heads is not None else ", ".join(classifier.manifest.labels)
            raise FormatError(
                folder, "labels", f"are {found}; the task's are {', '.join(labels)}: give a bundle for the same labels"
            )
        tell_progress(f"{ANSWER_TEXTS} with {name}")
        answers = classifier.classify(*texts_and_targets(texts))
    votes: dict[str, Vote] = {
        text.id: None if answer.abstain else dict(answer.probs) for text, answer in zip(texts, answers, strict=True)
    }
    return source_votes(name, "bundle", texts, labels, votes)


def _prototypes(task: Task, file: str, texts: list[Text], space: TextSpace) -> SourceVotes:
    """The votes of the nearest prototypes; raises FormatError, UserError, or ModuleNotFoundError without the extra train."""
    if file == EXAMPLES:
        examples = [Text(example.text, target=example.target, gold=example.label) for example in task.examples]
    else:
        examples = read_texts(file, labels=task.label_names, target=task.input.target, gold=True).texts
    check_embedding_libraries()
    return prototype_votes("prototypes", texts, examples, task.label_names, space.vectors([*texts, *examples]))


def _people(store: Path, texts: list[Text], labels: list[str]) -> list[SourceVotes]:
    """What each person decided, as a source; raises UserError if nobody decided anything, or FormatError for another label."""
    with LabelStore.read(store) as opened:
        decided = Decided(stored_decisions(opened))
    if not decided.people():
        raise UserError(f"{store}: nobody has decided anything; label texts with: potstill review {store} --task TASK")
    found = []
    for person in decided.people():
        votes: dict[str, Vote] = {}
        for text_id in decided.texts_of(person):
            row = decided.latest(text_id, ONLY).get(person)
            if row is None:
                continue
            if row.labels is not None and row.labels not in labels:
                raise FormatError(store, f"decision {row.number}", f"{row.labels!r} is not a label; allowed: {', '.join(labels)}")
            votes[text_id] = None if row.labels is None else {str(row.labels): 1.0}
        found.append(source_votes(f"person {person}", "people", texts, labels, votes))
    return found
