"""Export a checkpoint as a bundle: build the forms of its model, choose one, and prove the bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import onnxruntime as ort

from potstill.contract.bundle import Manifest
from potstill.contract.checkpoint import Student, read_student
from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.system import machine
from potstill.export.bundle.assemble import BundleContent, manifest_of, write_bundle
from potstill.export.bundle.familiarity import fit_familiarity
from potstill.export.bundle.heads import with_question_outputs
from potstill.export.config import AUTO, FLOAT, FULL_RANGE, STATIC, TRAINED, ExportConfig
from potstill.export.gate.criteria import fastest, max_chance_flips
from potstill.export.gate.forms import Candidate, float_form, int8_and_fused_forms, pruned_float_form, time_forms, trained_form
from potstill.export.gate.graph_checks import check_parity
from potstill.export.gate.quality import PrunedVocabulary, Quality
from potstill.export.gate.source import ExportSource, read_source
from potstill.export.graph import NoFormError, export_float
from potstill.export.quantization.smoothing import weight_products
from potstill.export.report import ExportReport
from potstill.export.tokenizer.prune import KeptPieces, prune_checkpoint

ExportProgress = Callable[[str, int, int], None]  # (stage, done, total)
_DEFAULTS = ExportConfig()


def export_bundle(
    checkpoint: str | Path, bundle: str | Path, config: ExportConfig = _DEFAULTS, progress: ExportProgress | None = None
) -> ExportReport:
    """Write a checkpoint as a bundle, in the fastest form that passes the gate.

    The report has every form that was tried, with its numbers and, where it was refused, the reason. Float always passes. An
    existing bundle is replaced only once the new one is proved. Two exports on one machine are equal, byte for byte.

        >>> report = potstill.export_bundle("student", "bundle", potstill.ExportConfig(variant="dynamic_int8", min_agreement=0))
        >>> report.manifest.variant
        'dynamic_int8'

    Args:
        checkpoint: the trainer's folder.
        bundle: the folder to write.
        config: the limits, and which forms are tried.
        progress: called with (stage, done, total).
    Raises:
        FormatError: if the checkpoint is incomplete or malformed, or cannot be exported.
        UserError: if a form that was asked for does not pass, or the bundle cannot be written or proved.
    """
    checkpoint, bundle = Path(checkpoint), Path(bundle)
    tell = progress or (lambda stage, done, total: None)
    with atomic.scratch("potstill-export") as scratch:
        tell("export", 0, 4)
        student = read_student(checkpoint)
        whole, whole_source = _float(checkpoint, student, config, scratch)
        parity = check_parity(checkpoint, whole_source.gate.feeds, whole.logits, student.heads)
        reference, source, kept = whole, whole_source, None
        if config.prune_vocab:
            reference, source, kept = _pruned_float(whole, whole_source, config, scratch)
        tell("quantize", 1, 4)
        others, not_tried = int8_and_fused_forms(reference, source, config, scratch)
        if config.qat:
            if reason := _why_not_trained(student, reference, others):
                not_tried[TRAINED] = reason
            else:
                tell("train", 1, 4)
                others += _trained(reference, source, config, scratch, not_tried)
        tell("measure", 2, 4)
        (reference, *others), whole_ms = time_forms([reference, *others], source, (whole, whole_source) if kept else None)
        pruned = _pruning_effect(kept, reference, whole, source, whole_source, whole_ms) if kept else None
        chosen = _choose(checkpoint, config, reference, others, not_tried)
        tell("prove", 3, 4)
        manifest = manifest_of(chosen, reference, source)
        if manifest.heads is not None:
            chosen = replace(chosen, model=with_question_outputs(chosen.model, manifest.heads))
        quality = _quality(manifest, source, [reference, *others], not_tried, parity, config)
        quality = msgspec.structs.replace(quality, pruned=pruned)
        known = fit_familiarity(chosen, source, config.unfamiliar_rate, scratch, config.threads)
        content = BundleContent(source.checkpoint, source.task, known.model, manifest, quality, known.familiarity)
        write_bundle(bundle, content)
    tell("done", 4, 4)
    size_bytes = sum(path.stat().st_size for path in bundle.iterdir())
    return ExportReport(bundle, manifest, quality, size_bytes, known.familiarity, config.unfamiliar_rate)


def _float(checkpoint: Path, student: Student, config: ExportConfig, scratch: Path) -> tuple[Candidate, ExportSource]:
    """The float form of a checkpoint, and the checkpoint's content."""
    raw = export_float(checkpoint, scratch, student.max_tokens)
    source = read_source(checkpoint, student, [node.name for node in raw.graph.input], Path(config.pool) if config.pool else None)
    return float_form(raw, source, config, scratch), source


# Vocabulary pruning


def _pruned_float(
    whole: Candidate, whole_source: ExportSource, config: ExportConfig, scratch: Path
) -> tuple[Candidate, ExportSource, KeptPieces]:
    """Prune the vocabulary; returns (the float form, the pruned checkpoint's content, the pieces kept)."""
    small, forms = scratch / "pruned", scratch / "pruned-forms"
    small.mkdir()
    forms.mkdir()
    student = whole_source.student
    kept = prune_checkpoint(whole_source.checkpoint, Path(str(config.prune_vocab)), small, target=student.target)
    raw = export_float(small, forms, student.max_tokens)
    source = read_source(small, student, [node.name for node in raw.graph.input], Path(config.pool) if config.pool else None)
    if source.gate.texts != whole_source.gate.texts:  # a pool is sampled by length in tokens, which pruning changes
        gate = replace(
            whole_source.gate, feeds=[source.tokenize.ids(*one) for one in whole_source.gate.texts], pad_id=source.gate.pad_id
        )
        source = replace(source, gate=gate)
    return pruned_float_form(raw, whole, source, config, forms), source, kept


def _pruning_effect(
    kept: KeptPieces, made: Candidate, whole: Candidate, source: ExportSource, whole_source: ExportSource, whole_ms: float
) -> PrunedVocabulary:
    """Compare the float form before and after pruning."""
    pairs = zip(source.gate.feeds, whole_source.gate.feeds, strict=True)
    respelled = sum([kept.ids[i] for i in after["input_ids"][0]] != before["input_ids"][0].tolist() for after, before in pairs)
    return PrunedVocabulary(
        n_pieces_before=kept.n_before,
        n_pieces=len(kept.ids),
        bytes_before=whole.form.bytes,
        bytes=made.form.bytes,
        ms_p50_before=whole_ms,
        ms_p50=made.form.ms_p50,
        macro_f1_before=whole.form.macro_f1,
        macro_f1=made.form.macro_f1,
        respelled=respelled,
        flips=made.form.flips,
        n=len(source.gate.feeds),
    )


# The choice and its evidence


def _trained(
    reference: Candidate, source: ExportSource, config: ExportConfig, scratch: Path, not_tried: dict[str, str]
) -> list[Candidate]:
    """The form that was trained against int8; none, with the reason in `not_tried`, if it cannot be made."""
    try:
        return [trained_form(reference, source, config, scratch)]
    except NoFormError as error:
        not_tried[TRAINED] = str(error)
        return []


def _why_not_trained(student: Student, reference: Candidate, others: list[Candidate]) -> str:
    """Why quantization-aware training is not needed or not possible; empty if it should run."""
    if student.heads is not None:
        return "a student of several questions is not trained against int8"
    static = [one.form for one in others if one.form.variant in (STATIC, FULL_RANGE)]
    if not static:
        return "static int8 was not asked for"
    if passed := [form.variant for form in static if not form.problem]:
        return f"{passed[0]} passes as it is"
    return "" if weight_products(reference.model) else "the network has no products of matrices inside"


def _choose(
    checkpoint: Path, config: ExportConfig, reference: Candidate, others: list[Candidate], not_tried: dict[str, str]
) -> Candidate:
    """The candidate to ship; raises UserError if the form that was asked for cannot be built or does not pass."""
    if config.variant != AUTO and config.variant != FLOAT:
        if config.variant in not_tried:
            raise UserError(f"{checkpoint}: {config.variant} cannot be made: {not_tried[config.variant]}")
        asked = others[-1]
        if asked.form.problem:
            allow = f"allow more with --max-drop, --min-agreement or --max-change, or use --variant {AUTO}"
            raise UserError(f"{checkpoint}: {asked.form.variant} does not pass: {asked.form.problem}; {allow}")
        return asked
    best = fastest([one.form for one in [reference, *others]])
    return next(one for one in [*others, reference] if best is None or one.form == best)


def _quality(
    manifest: Manifest, source: ExportSource, tried: list[Candidate], not_tried: dict[str, str], parity: float, config: ExportConfig
) -> Quality:
    """The content of `quality.json`; it holds no date, so that a second export writes the same bytes."""
    return Quality(
        variant=manifest.variant,
        n_validation=source.gate.n_validation,
        n_calibration=len(source.calibration),
        torch_change_max=parity,
        max_drop=config.max_drop,
        min_agreement=config.min_agreement,
        max_change=config.max_change,
        flips_explained=max_chance_flips(len(source.gate.texts), 1 - config.min_agreement),
        temperature=manifest.temperature,
        onnxruntime=ort.__version__,
        cpu=machine.cpu_name(),
        cpu_flags=machine.cpu()[1],
        forms=[candidate.form for candidate in tried],
        not_tried=not_tried,
    )
