"""Gather what a project's folder holds of each stage, for the report: prompt, cost, methods, examples, forms; and a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from potstill.contract.bundle import QUALITY_FILE, read_manifest
from potstill.contract.checkpoint import TASK_FILE, VALIDATION_FILE, Student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import decode
from potstill.contract.project import SOFT_LABELS_FILE, STATE_FILE, STORE_FILE, StageRecord
from potstill.contract.questions.soft_answers import SoftAnswers
from potstill.contract.soft_label import SoftLabel, read_soft_labels
from potstill.contract.task import Task, task_from_json
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DEFAULTS
from potstill.labeler.aggregation.summary import Summary, summary
from potstill.labeler.config import LabelConfig
from potstill.labeler.embeddings import embeddings
from potstill.labeler.prompts.variants import one_variant, prompt_variants, prompts_digest
from potstill.labeler.store.database import LabelStore, RunSettings
from potstill.labeler.teacher import Identity
from potstill.models.catalog import find_backbone
from potstill.trainer.config import MAX_MAP_TEXTS
from potstill.trainer.evaluation.checkpoint_scores import predict
from potstill.trainer.report.stages import (
    CostLine,
    ExportStage,
    FormLine,
    LabellingStage,
    MethodLine,
    Stages,
    label_examples,
    training_stage,
)
from potstill.trainer.report.text_map import MIN_TEXTS, MappedTexts, TextMap, text_map

PLAIN = Identity("", "", "", "")  # a plain prompt asks nothing of the teacher
Row = TypeVar("Row", SoftLabel, SoftAnswers)
N_HELD_OUT = 500  # texts at most on which student and teacher are compared


def stages_of(folder: Path, checkpoint: Path, student: Student, bundle: Path | None) -> Stages:
    """What there is of each stage.

    Args:
        folder: of `potstill run` or `potstill label`.
        checkpoint: of a student of one choice.
        bundle: of the checkpoint; None: there is none.
    Raises:
        FormatError: if a file is malformed.
        UserError: if the store is of another task.
    """
    seconds = stage_seconds(folder)
    path = checkpoint / TASK_FILE
    task = task_from_json(path, decode.read_bytes(path))
    labelling = _labelling(folder, task, seconds.get("label")) if (folder / STORE_FILE).is_file() else None
    export = export_stage(bundle, seconds.get("export")) if bundle is not None else None
    held_out = read_soft_labels(checkpoint / VALIDATION_FILE, labels=student.labels)[:N_HELD_OUT]
    probs = predict(checkpoint, [Text(row.text, row.id, row.target) for row in held_out])
    return Stages(labelling, training_stage(held_out, probs, student.labels, seconds.get("train")), export)


def stage_seconds(folder: Path) -> dict[str, float]:
    """The seconds that each finished stage of a project took, by its name; none where nothing is written down."""
    path = folder / STATE_FILE
    records = decode.json(path, decode.read_bytes(path), dict[str, StageRecord]) if path.is_file() else {}
    return {name: record.seconds for name, record in records.items()}


def _labelling(folder: Path, task: Task, seconds: float | None) -> LabellingStage:
    """How the soft labels came about."""
    with LabelStore.read(folder / STORE_FILE) as store:
        runs = [run for run in store.runs() if run.settings.task_digest == task.digest]
        if not runs:
            raise UserError(f"{folder / STORE_FILE}: holds no run of the student's task; name the folder that it was labelled in")
        found = summary(store, runs[-1], DEFAULTS)
        texts = store.texts()
    first = found.first_settings or found.settings
    prompt, note = sent_prompt(task, first, next(iter(texts.values())))
    rows = read_soft_labels(folder / SOFT_LABELS_FILE, labels=task.label_names) if (folder / SOFT_LABELS_FILE).is_file() else []
    gold = [text.gold for text in texts.values() if text.gold in task.label_names]
    shares = {name: gold.count(name) / len(gold) for name in task.label_names} if gold else {}
    examples = label_examples(rows, task.label_names)
    return LabellingStage(prompt, note, cost_lines(found), method_lines(found), shares, found.agreement, examples, seconds)


def cost_lines(found: Summary) -> list[CostLine]:
    """A line for each mode of each teacher."""
    teachers = {found.run: found.settings.teacher}
    if found.first_run is not None and found.first_settings is not None:
        teachers[found.first_run] = found.first_settings.teacher
    return [
        CostLine(
            teacher=teachers[row.run],
            mode=row.mode,
            n_texts=row.n_texts,
            paths_per_text=row.paths_per_text,
            prompt_tokens_per_text=row.prompt_tokens_per_text,
            generated_tokens_per_text=row.generated_tokens_per_text,
        )
        for row in found.cost
    ]


def method_lines(found: Summary) -> list[MethodLine]:
    """A line for each method."""
    return [MethodLine(row.name, row.shares, row.scores["accuracy"] if row.scores else None) for row in found.methods]


def sent_prompt(task: Task, settings: RunSettings, text: Text) -> tuple[str, str]:
    """(the first variant's prompt for a text, a note); it is shown only if its digest says that it is what was sent."""
    ask = "potstill task show TASK TEXT --teacher TEACHER prints it"
    if settings.template != "plain" or settings.examples == "nearest" or settings.candidates:
        return "", f"The prompt depends on the teacher's template, or on each text by itself; {ask}."
    n_variants = settings.n_variants - settings.n_direct if settings.mode == "cascade" else settings.n_variants
    changes: dict[str, Any] = {"mode": settings.mode, "n_variants": n_variants, "n_paths": n_variants, "seed": settings.seed}
    changes |= {"guideline": settings.guideline, "temperature": settings.temperature, "n_direct": settings.n_direct or 1}
    changes |= {"max_rationale_tokens": settings.max_rationale_tokens, "candidates": 0}
    for examples in ("diverse", "given"):
        config = replace(LabelConfig(), examples=examples, **changes)
        try:
            sent = prompts_digest(prompt_variants(task, config, PLAIN)) == settings.prompt_digest
        except UserError:  # settings of a run that this version would not begin
            continue
        if sent:
            made = one_variant(task, 0, config, PLAIN)
            note = f"Variant 1 of {settings.n_variants}; the opening token of the vocabulary comes before it."
            return made.prefix + made.prompt(text) + made.spec.tail, note
    return "", f"The prompt was made with settings that the store does not record; {ask}."


def export_stage(bundle: Path, seconds: float | None) -> ExportStage | None:
    """The forms that were tried; None where the bundle has no record of them."""
    path = bundle / QUALITY_FILE
    quality = decode.json(path, decode.read_bytes(path), dict[str, Any])
    if not quality.get("forms"):
        return None
    variant = read_manifest(bundle).variant
    try:
        lines = [
            FormLine(
                variant=form["variant"],
                ms_p50=form["ms_p50"],
                megabytes=form["bytes"] / 1e6,
                macro_f1=form["macro_f1"],
                agreement=form["agreement"],
                flips=form["flips"],
                n=form["n"],
                verdict=form["problem"] or "passed",
                shipped=form["variant"] == variant,
            )
            for form in quality["forms"]
        ]
    except (KeyError, TypeError) as error:
        raise FormatError(path, "forms", f"lacks {error}; export the bundle again") from None
    return ExportStage(lines, str(quality.get("cpu", "")), seconds)


def map_of(
    checkpoint: Path, student: Student, gold: Sequence[Text], rows: Sequence[SoftLabel], most: int
) -> tuple[TextMap | None, str]:
    """(a map of gold texts and, where there is room, labelled ones; a note where there is none).

    Args:
        gold: with gold labels, those first.
        rows: soft labels, of the texts that were trained on and of the gold ones, if there are any.
        most: texts.
    """
    if most < MIN_TEXTS:
        return None, ""
    try:
        backbone = find_backbone(student.backbone)
    except UserError:
        return None, f"Without the backbone ({student.backbone}) there is no map of the texts."
    labelled = {(row.text, row.target or None): row for row in rows}
    texts = {(text.text, text.target): text for text in gold}
    others = [row for about, row in labelled.items() if about not in texts]
    for row in spread_rows(others, max(0, min(most, MAX_MAP_TEXTS) - len(texts))):
        texts.setdefault((row.text, row.target or None), Text(row.text, row.id, row.target or None))
    chosen = list(texts.values())[: min(most, MAX_MAP_TEXTS)]
    if len(chosen) < MIN_TEXTS:
        return None, f"A map needs at least {MIN_TEXTS} texts."
    probs = predict(checkpoint, chosen)
    best = probs.argmax(axis=1)
    own = [labelled.get((text.text, text.target)) for text in chosen]
    known = MappedTexts(
        chosen,
        [student.labels[c] for c in best],
        [float(row[c]) for row, c in zip(probs, best, strict=True)],
        embeddings(chosen, backbone.path),
        [row.majority if row else None for row in own],
        [row.agreement if row else None for row in own],
    )
    return text_map(known), ""


def spread_rows(rows: Sequence[Row], n: int) -> list[Row]:
    """At most n rows at equal steps, so that a sorted file is covered from end to end."""
    n = min(n, len(rows))
    return [rows[i * len(rows) // n] for i in range(n)]
