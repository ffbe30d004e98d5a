"""Derive soft labels of several questions from stored paths: each question, and each tag, as a task of its own.

Axes: P paths, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from potstill.contract.errors import UserError
from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.question import NO, YES, Question
from potstill.contract.questions.questionnaire import remarks_by_key
from potstill.contract.questions.soft_answers import QuestionLabel, SoftAnswers
from potstill.contract.soft_label import SoftLabel
from potstill.labeler.aggregation.config import DEFAULTS, QUESTION_MARK, DeriveConfig
from potstill.labeler.aggregation.notes import STATED
from potstill.labeler.aggregation.other_texts.surroundings import TextSpace
from potstill.labeler.aggregation.soft_labels import derive, teachers_digest
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.store.questions import labelling, questions_of, tag_name

# A tag whose share nobody has stated is taken to hold for a quarter of the texts: tags mostly do not hold, and with even shares
# every one would hold for half. The teacher's own shares and mixtures of its log-odds were no nearer to the truth (docs/log.md).
TAG_SHARE = 0.25
ASSUMING = ("calibrated", "majority", "affine")  # methods that do so


@dataclass(frozen=True)
class DerivedAnswers:
    """Soft labels of several questions, with notes and warnings about them."""

    rows: list[SoftAnswers]
    warnings: list[str]  # one line each, for a person; each begins with what it is about
    questions: list[Question]


def derive_questions(
    store: LabelStore, run: Run, config: DeriveConfig = DEFAULTS, ids: Sequence[str] | None = None, space: TextSpace | None = None
) -> DerivedAnswers:
    """Derive the soft labels of the labelling that a run belongs to; a text without paths of a question has no answer to it.

    Args:
        config: for every question; its prior names labels as `question:label`. A tag without a stated share has TAG_SHARE.
        ids: the wanted texts, in the wanted order; None means all, ordered by id.
        space: where embeddings of the texts are kept; None: until all questions are derived.
    Raises:
        UserError: as :func:`potstill.labeler.aggregation.soft_labels.derive`, or if the prior does not fit the questions.
    """
    runs = labelling(store, run)
    questions = questions_of(runs)
    priors = priors_of(config, questions)
    columns, warnings = _derived(store, runs, config, priors, space or TextSpace(config.backbone))
    if not any(columns.values()):
        raise UserError(f"{store.path}: holds no path of this labelling yet; run: potstill label")
    texts = store.texts()
    known = sorted({text_id for column in columns.values() for text_id in column})
    wanted = known if ids is None else [text_id for text_id in ids if text_id in set(known)]
    digest, task_digest = teachers_digest(run, store.first_run(run)), run.settings.task_digest
    rows = []
    for text_id in wanted:
        text = texts[text_id]
        gold = parse_gold(store.path, f"text {text_id!r}", questions, text.gold)
        rows.append(
            SoftAnswers(
                id=text_id,
                text=text.text,
                target=text.target,
                answers={question.name: _answer(question, columns, text_id) for question in questions},
                teacher_digest=digest,
                task_digest=task_digest,
                gold=dict(gold) or None,
            )
        )
    return DerivedAnswers(rows, warnings, questions)


def _derived(
    store: LabelStore, runs: Sequence[Run], config: DeriveConfig, priors: Mapping[str, dict[str, float]], space: TextSpace
) -> tuple[dict[str, dict[str, SoftLabel]], list[str]]:
    """The soft labels of each question and tag by text id, and the warnings about them."""
    columns: dict[str, dict[str, SoftLabel]] = {}
    warnings: list[tuple[str, str]] = []
    for own in runs:
        key = own.settings.question
        if not any(True for _ in store.query("select 1 from paths where run = ? limit 1", own.number)):
            columns[key] = {}
            continue
        assumed = tag_name(own.settings) is not None and key not in priors and config.method in ASSUMING
        prior = {YES: TAG_SHARE, NO: 1 - TAG_SHARE} if assumed else priors.get(key)
        found = derive(store, own, replace(config, prior=prior), space=space, guessed=assumed)
        columns[key] = {row.id: row for row in found.rows}
        example = f"{key.partition('/')[0]}{QUESTION_MARK}TAG=0.1"
        note = f"{TAG_SHARE:.0%} {YES}, which is a guess; state a tag's share: --prior {example}"
        warnings += [(key, line.replace(STATED, note) if assumed else line) for line in found.warnings]
    return columns, remarks_by_key(warnings)


def priors_of(config: DeriveConfig, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
    """The stated shares by the key of what is asked: `stance`, `topics/price`; a tag's are those of yes and no.

    `asks:yes=0.3` and `topics:price=0.1` state one share, from which the other follows.

    Raises:
        UserError: if a share is stated for what is no question or label.
    """
    by_name = {question.name: question for question in questions}
    found: dict[str, dict[str, float]] = {}
    for key, share in (config.prior or {}).items():
        name, mark, label = key.partition(QUESTION_MARK)
        if not mark or name not in by_name or label not in by_name[name].label_names:
            example = f"{questions[0].name}{QUESTION_MARK}{questions[0].label_names[0]}=0.3"
            raise UserError(f"prior: {key!r} is not question{QUESTION_MARK}label; write for example {example}")
        if by_name[name].kind == "tags":
            found[f"{name}/{label}"] = {YES: share, NO: 1 - share}
        else:
            found.setdefault(name, {})[label] = share
    for name, shares in found.items():
        if name in by_name and by_name[name].kind == "yesno" and len(shares) == 1:
            ((label, share),) = shares.items()
            shares[NO if label == YES else YES] = 1 - share
    return found


def _answer(question: Question, columns: Mapping[str, Mapping[str, SoftLabel]], text_id: str) -> QuestionLabel | None:
    """What the paths say about one question of a text; None where it, or one of its tags, has no path."""
    if question.kind != "tags":
        row = columns[question.name].get(text_id)
        if row is None:
            return None
        return QuestionLabel(
            probs=row.probs,
            votes=row.votes,
            agreement=row.agreement,
            n_paths=row.n_paths,
            entropy=row.entropy,
            label_mass=row.label_mass,
            method=row.method,
        )
    found = [columns[f"{question.name}/{name}"].get(text_id) for name in question.label_names]
    rows = [row for row in found if row is not None]
    if len(rows) < len(found):
        return None
    n = len(rows)
    return QuestionLabel(
        probs={name: row.probs[YES] for name, row in zip(question.label_names, rows, strict=True)},
        votes={name: row.votes[YES] for name, row in zip(question.label_names, rows, strict=True)},
        agreement=sum(row.agreement for row in rows) / n,
        n_paths=max(row.n_paths for row in rows),
        entropy=sum(row.entropy for row in rows),
        label_mass=sum(row.label_mass for row in rows) / n,
        method=rows[0].method,
    )
