"""What a project's folder holds of each stage for a student of several questions, question by question; and a map for each.

Axes: N texts, C outputs of all questions side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.contract.bundle import QUALITY_FILE
from potstill.contract.checkpoint import VALIDATION_FILE, Student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import decode
from potstill.contract.project import STORE_FILE
from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.head import Head, ranges
from potstill.contract.questions.kind_scores import scores_of
from potstill.contract.questions.probabilities import decided, tag_thresholds
from potstill.contract.questions.question import YES, Question
from potstill.contract.questions.questionnaire import Ask, Questionnaire
from potstill.contract.questions.soft_answers import QuestionLabel, SoftAnswers, read_soft_answers, rows_of
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DEFAULTS
from potstill.labeler.aggregation.summary import Summary, summary
from potstill.labeler.config import LabelConfig
from potstill.labeler.embeddings import embeddings
from potstill.labeler.prompts.several import asked_together, shared_variants, variants_digest
from potstill.labeler.store.database import LabelStore, RunSettings
from potstill.labeler.store.questions import labelling
from potstill.models.catalog import find_backbone
from potstill.trainer.config import MAX_MAP_TEXTS
from potstill.trainer.data.answered import majorities, was_read
from potstill.trainer.evaluation.questions import student_answers
from potstill.trainer.report.questions import QuestionsFolder
from potstill.trainer.report.stages import (
    ExportStage,
    LabelAgreement,
    LabelExamples,
    LabellingStage,
    MethodLine,
    Stages,
    TrainingStage,
    label_examples,
)
from potstill.trainer.report.text_map import MIN_TEXTS, MappedTexts, TextMap, placed, text_map
from potstill.workflows.overview.stages import (
    N_HELD_OUT,
    cost_lines,
    export_stage,
    method_lines,
    sent_prompt,
    spread_rows,
    stage_seconds,
)


def questions_folder(
    folder: Path, checkpoint: Path, student: Student, task: Questionnaire, rows: Sequence[SoftAnswers], bundle: Path | None
) -> QuestionsFolder:
    """What there is of each stage, without maps.

    Args:
        folder: of `potstill run` or `potstill label`.
        rows: the soft labels that the student was trained on, for examples; may be empty.
        bundle: of the checkpoint; None: there is none.
    Raises:
        FormatError: if a file is malformed.
        UserError: if the store is of another task.
    """
    seconds = stage_seconds(folder)
    labelled = _labelling(folder / STORE_FILE, task, rows) if (folder / STORE_FILE).is_file() else {}
    trained = _training(checkpoint, student, task)
    forms = export_stage(bundle, seconds.get("export")) if bundle is not None else None
    of_each = _forms_of_each(bundle, forms) if bundle is not None and forms is not None else {}
    names = [question.name for question in task.questions]
    stages = {name: Stages(labelled.get(name), trained.get(name), of_each.get(name)) for name in names}
    return QuestionsFolder(stages, forms, {name: seconds[name] for name in ("label", "train") if name in seconds})


# --- labelling


def _labelling(store_path: Path, task: Questionnaire, rows: Sequence[SoftAnswers]) -> dict[str, LabellingStage]:
    """How the soft labels of each question came about."""
    found = {}
    with LabelStore.read(store_path) as store:
        own = [run for run in store.runs() if run.settings.task_digest == task.digest]
        if not own:
            raise UserError(f"{store_path}: holds no run of the student's task; name the folder that it was labelled in")
        runs = {run.settings.question: run for run in labelling(store, own[-1])}
        texts = store.texts()
        gold = [parse_gold(store_path, f"text {text.id!r}", task.questions, text.gold) for text in texts.values()]
        first = next(iter(texts.values()))
        for question in task.questions:
            asks = [ask for ask in task.asks_of(question) if ask.key in runs]
            if asks:
                given = [answers[question.name] for answers in gold if question.name in answers]
                summaries = [summary(store, runs[ask.key], DEFAULTS) for ask in asks]
                prompt = sent_prompt_of(task, asks[0], runs[asks[0].key].settings, first)
                found[question.name] = _stage(question, summaries, asks, prompt, given, rows)
    return found


def _stage(
    question: Question,
    summaries: Sequence[Summary],
    asks: Sequence[Ask],
    prompt: tuple[str, str],
    given: Sequence[Sequence[str]],
    rows: Sequence[SoftAnswers],
) -> LabellingStage:
    """One question's labelling. Args: summaries, of its run, or of the run of each tag; given, gold labels of each gold text."""
    tags = question.kind == "tags"
    cost = [line for found in summaries for line in cost_lines(found)]
    if tags:
        cost = [
            replace(line, mode=f"{line.mode}, {ask.tag}")
            for found, ask in zip(summaries, asks, strict=True)
            for line in cost_lines(found)
        ]
        methods = _tag_methods(summaries, asks)
        examples = [
            LabelExamples(ask.tag or "", one.n, one.surest, one.contested)
            for ask in asks
            for one in label_examples(rows_of(rows, question, ask.tag), [YES])
        ]
    else:
        methods = method_lines(summaries[0])
        examples = label_examples(rows_of(rows, question), question.label_names)
    held = Counter(name for labels in given for name in labels)
    agreement: Counter[str] = Counter()
    for found in summaries:
        agreement.update(found.agreement)
    return LabellingStage(
        prompt=prompt[0],
        prompt_note=prompt[1],
        cost=cost,
        methods=methods,
        gold_shares={name: held[name] / len(given) for name in question.label_names} if given else {},
        agreement=dict(sorted(agreement.items())),
        examples=examples,
        seconds=None,
    )


def _tag_methods(summaries: Sequence[Summary], asks: Sequence[Ask]) -> list[MethodLine]:
    """A line for each method that every tag has: the share of the texts where each tag holds."""
    shares = [{row.name: row.shares[YES] for row in found.methods} for found in summaries]
    shared = [name for name in shares[0] if all(name in own for own in shares)]
    return [MethodLine(name, {ask.tag or "": own[name] for ask, own in zip(asks, shares, strict=True)}, None) for name in shared]


def sent_prompt_of(task: Questionnaire, ask: Ask, settings: RunSettings, text: Text) -> tuple[str, str]:
    """(the first variant's prompt for a text, a note): of questions that share one up to this question's own field."""
    changes: dict[str, Any] = {
        "mode": settings.mode,
        "n_variants": settings.n_variants,
        "n_paths": settings.n_variants,
        "seed": settings.seed,
        "guideline": settings.guideline,
        "temperature": settings.temperature,
        "max_rationale_tokens": settings.max_rationale_tokens,
    }
    if settings.template == "plain" and settings.mode in ("direct", "cot"):
        for forks in asked_together(task):
            place = next((i for i, fork in enumerate(forks) if ask in fork.asks), None)
            for examples in ("diverse", "given") if place is not None else ():
                made = shared_variants(task, forks, replace(LabelConfig(), examples=examples, **changes))
                if variants_digest(made) == settings.prompt_digest:
                    together = f"it is shared by {len(forks)} questions" if len(forks) > 1 else "it asks this question alone"
                    note = (
                        f"Variant 1 of {settings.n_variants}; {together}, and the opening token of the vocabulary comes before it."
                    )
                    return made[0].prefix + made[0].prompt(text, place or 0), note
    return sent_prompt(ask.task, settings, text)


# --- training and export


def _training(checkpoint: Path, student: Student, task: Questionnaire) -> dict[str, TrainingStage]:
    """The student beside its teacher on the held-out texts that answer each question."""
    held_out = read_soft_answers(checkpoint / VALIDATION_FILE, task.questions)[:N_HELD_OUT]
    probs = student_answers(checkpoint, student, [Text(row.text, row.id, row.target) for row in held_out])
    found = {}
    heads = student.heads or []
    for head, outputs in zip(heads, ranges(heads), strict=True):
        question = task.find(head.name)
        places = [i for i, row in enumerate(held_out) if (label := row.answers.get(head.name)) is not None and was_read(label)]
        if places:
            teacher = majorities([held_out[i] for i in places], question)
            found[head.name] = _training_stage(head, probs[places, outputs], teacher)
    return found


def _training_stage(head: Head, probs: NDArray[np.float64], teacher: NDArray[np.int64]) -> TrainingStage:
    """Both on n texts. Args: probs, float [n, labels]; teacher, int [n], of tags 0 or 1 [n, labels]."""
    own, wanted = decided(head, probs).astype(bool), teacher.astype(bool)
    if head.is_softmax:
        own, wanted = (np.eye(len(head.labels), dtype=bool)[found] for found in (probs.argmax(axis=1), teacher))
    lines = [
        LabelAgreement(name, int(wanted[:, c].sum()), int(own[:, c].sum()), int((wanted[:, c] & own[:, c]).sum()))
        for c, name in enumerate(head.labels)
    ]
    scores = scores_of(head.kind, probs, teacher, values=head.values, thresholds=tag_thresholds(head))
    return TrainingStage(len(probs), scores["accuracy" if head.is_softmax else "micro_f1"], lines, None)


def _forms_of_each(bundle: Path, forms: ExportStage) -> dict[str, ExportStage]:
    """What each form changed in the answers to each question."""
    path = bundle / QUALITY_FILE
    found: dict[str, ExportStage] = {}
    quality = decode.json(path, decode.read_bytes(path), dict[str, Any])
    try:
        for line, form in zip(forms.forms, quality["forms"], strict=True):
            for one in form.get("questions") or []:
                own = replace(line, macro_f1=one["score"], agreement=one["agreement"], flips=one["flips"], n=one["n"])
                found.setdefault(one["name"], ExportStage([], forms.cpu, None)).forms.append(own)
    except (KeyError, TypeError) as error:
        raise FormatError(path, "forms", f"lacks {error}; export the bundle again") from None
    return found


# --- maps


def question_maps(
    checkpoint: Path,
    student: Student,
    gold: Sequence[Text],
    answers: Sequence[Mapping[str, list[str]]],
    rows: Sequence[SoftAnswers],
    most: int,
) -> tuple[list[tuple[str, TextMap]], str]:
    """(a map for each question, all of the same texts at the same places; a note where there is none).

    Args:
        gold: texts with gold answers, which are shown first.
        answers: those, by question.
        rows: soft labels, of the texts that were trained on and of the gold ones, if there are any.
        most: texts.
    """
    if most < MIN_TEXTS:
        return [], ""
    try:
        backbone = find_backbone(student.backbone)
    except UserError:
        return [], f"Without the backbone ({student.backbone}) there is no map of the texts."
    labelled = {(row.text, row.target or None): row for row in rows}
    texts: dict[tuple[str, str | None], tuple[Text, Mapping[str, list[str]]]] = {
        (text.text, text.target): (text, given) for text, given in zip(gold, answers, strict=True)
    }
    others = [row for about, row in labelled.items() if about not in texts]
    for row in spread_rows(others, max(0, min(most, MAX_MAP_TEXTS) - len(texts))):
        texts.setdefault((row.text, row.target or None), (Text(row.text, row.id, row.target or None), {}))
    chosen = list(texts.values())[: min(most, MAX_MAP_TEXTS)]
    if len(chosen) < MIN_TEXTS:
        return [], f"A map needs at least {MIN_TEXTS} texts."
    shown = [text for text, _ in chosen]
    probs, vectors = student_answers(checkpoint, student, shown), embeddings(shown, backbone.path)
    places, found = placed(vectors), []
    heads = student.heads or []
    for head, outputs in zip(heads, ranges(heads), strict=True):
        own = [labelled.get((text.text, text.target)) for text in shown]
        said = [row.answers.get(head.name) if row else None for row in own]
        given = [people.get(head.name) for _, people in chosen]
        found.append((head.name, text_map(_known(head, shown, given, probs[:, outputs], said, vectors), places)))
    return found, ""


def _known(
    head: Head,
    texts: Sequence[Text],
    given: Sequence[Sequence[str] | None],
    probs: NDArray[np.float64],
    said: Sequence[QuestionLabel | None],
    vectors: NDArray[np.float32],
) -> MappedTexts:
    """What is known of one question's answers. Args: given, gold; probs, the student's, float [N, labels]; said, the teacher's."""
    own = decided(head, probs)
    if head.is_softmax:
        answers = [head.labels[int(row[0])] for row in own]
        sure = probs.max(axis=1)
    else:
        answers = [_joined([name for name, holds in zip(head.labels, row, strict=True) if holds]) for row in own]
        sure = np.where(own == 1, probs, 1 - probs).min(axis=1)  # of the tag that is least sure
    read = [label if label is not None and was_read(label) else None for label in said]
    return MappedTexts(
        texts=[
            Text(text.text, text.id, text.target, None if labels is None else _joined(labels))
            for text, labels in zip(texts, given, strict=True)
        ],
        answers=answers,
        confidences=[float(p) for p in sure],
        vectors=vectors,
        teacher=[None if label is None else _teacher_answer(head, label) for label in read],
        agreements=[None if label is None else label.agreement for label in read],
    )


def _teacher_answer(head: Head, label: QuestionLabel) -> str:
    """The majority answer of the teacher's paths, as the map names it."""
    if head.is_softmax:
        return max(label.votes, key=lambda name: (label.votes[name], label.probs[name]))
    return _joined([name for name in head.labels if 2 * label.votes[name] >= label.n_paths])


def _joined(names: Sequence[str]) -> str:
    """Tags as one label of a map: `news + chart`, or `none`."""
    return " + ".join(names) or "none"
