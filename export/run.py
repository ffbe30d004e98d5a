"""From a checkpoint to a proved bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import onnxruntime as ort

from potstill.contract.bundle import Manifest
from potstill.contract.checkpoint import Student, read_student
from potstill.contract.errors import UserError
from potstill.contract.system import machine
from potstill.export.bundle.assemble import Parts, write_bundle
from potstill.export.bundle.manifest import manifest_of
from potstill.export.config import AUTO, FLOAT, FULL_RANGE, STATIC, TRAINED, ExportConfig
from potstill.export.gate.forms import (
    Candidate,
    fastest,
    float_form,
    float_form_of_fewer_pieces,
    int8_and_fused_forms,
    timed,
    trained_form,
)
from potstill.export.gate.gate import explained_flips
from potstill.export.gate.graph_checks import check_parity
from potstill.export.gate.quality import PrunedVocabulary, Quality
from potstill.export.gate.source import Source, read_source
from potstill.export.graph import export_float
from potstill.export.quantization.smoothing import weight_products
from potstill.export.report import ExportReport
from potstill.export.tokenizer.prune import Cut, prune_checkpoint
from potstill.serve.runtime.session import cpu_name

Progress = Callable[[str, int, int], None]


_EXPORT = ExportConfig()


def export_bundle(
    checkpoint: str | Path, bundle: str | Path, config: ExportConfig = _EXPORT, progress: Progress | None = None
) -> ExportReport:
    """Write a checkpoint as a bundle in the fastest form that passes the gate.

    Every form that was tried is in the report with its numbers, and with the reason where it was refused. Float always passes.
    A bundle that is already there is replaced by a proved one only. Two exports on one machine are equal, byte for byte.

        >>> report = potstill.export_bundle("student", "bundle", potstill.ExportConfig(variant="dynamic_int8", min_agreement=0))
        >>> report.manifest.variant
        'dynamic_int8'

    Args:
        checkpoint: the trainer's folder.
        bundle: the folder to write.
        config: the gate.
        progress: is told (stage, done, total).
    Raises:
        FormatError: if the checkpoint is incomplete or malformed, or cannot be exported.
        UserError: if a form that was asked for does not pass, or the bundle cannot be written or proved.
    """
    checkpoint, bundle = Path(checkpoint), Path(bundle)
    tell = progress or (lambda stage, done, total: None)
    with tempfile.TemporaryDirectory(prefix="potstill-export-") as folder:
        scratch = Path(folder)
        tell("export", 0, 4)
        student = read_student(checkpoint)
        whole, whole_source = _float(checkpoint, student, config, scratch)
        parity = check_parity(checkpoint, whole_source.gate.feeds, whole.logits)
        reference, source, cut = whole, whole_source, None
        if config.prune_vocab:
            reference, source, cut = _fewer_pieces(whole, whole_source, config, scratch)
        tell("quantize", 1, 4)
        others, not_tried = int8_and_fused_forms(reference, source, config, scratch)
        if config.qat:
            if reason := _no_need(reference, others):
                not_tried[TRAINED] = reason
            else:
                tell("train", 1, 4)
                others.append(trained_form(reference, source, config, scratch))
        tell("measure", 2, 4)
        (reference, *others), whole_ms = timed([reference, *others], source, (whole, whole_source) if cut else None)
        pruned = _pruned(cut, reference, whole, source, whole_source, whole_ms) if cut else None
        chosen = _chosen(checkpoint, config, reference, others, not_tried)
        tell("prove", 3, 4)
        manifest = manifest_of(chosen, reference, source)
        quality = _quality(manifest, source, [reference, *others], not_tried, parity, config)
        quality = msgspec.structs.replace(quality, pruned=pruned)
        write_bundle(bundle, Parts(source.checkpoint, source.task, chosen.model, manifest, quality))
    tell("done", 4, 4)
    return ExportReport(bundle, manifest, quality, sum(path.stat().st_size for path in bundle.iterdir()))


def _float(checkpoint: Path, student: Student, config: ExportConfig, scratch: Path) -> tuple[Candidate, Source]:
    """The float form of a checkpoint, and the checkpoint's content."""
    raw = export_float(checkpoint, scratch, student.max_tokens)
    source = read_source(checkpoint, student, [node.name for node in raw.graph.input], Path(config.pool) if config.pool else None)
    return float_form(raw, source, config, scratch), source


def _fewer_pieces(whole: Candidate, whole_source: Source, config: ExportConfig, scratch: Path) -> tuple[Candidate, Source, Cut]:
    """(the float form of a pruned vocabulary, its checkpoint's content, which pieces are left)."""
    small, own = scratch / "pruned", scratch / "pruned-forms"
    small.mkdir()
    own.mkdir()
    student = whole_source.student
    cut = prune_checkpoint(whole_source.checkpoint, Path(str(config.prune_vocab)), small, target=student.target)
    raw = export_float(small, own, student.max_tokens)
    source = read_source(small, student, [node.name for node in raw.graph.input], Path(config.pool) if config.pool else None)
    if source.gate.asks != whole_source.gate.asks:  # which texts of a pool are taken goes by their number of pieces
        gate = replace(
            whole_source.gate, feeds=[source.tokenize.ids(*ask) for ask in whole_source.gate.asks], pad_id=source.gate.pad_id
        )
        source = replace(source, gate=gate)
    return float_form_of_fewer_pieces(raw, whole, source, config, own), source, cut


def _no_need(reference: Candidate, others: list[Candidate]) -> str:
    """Why there is nothing to train against int8 for, or nothing."""
    static = [one.form for one in others if one.form.variant in (STATIC, FULL_RANGE)]
    if not static:
        return "static int8 was not asked for"
    if passed := [form.variant for form in static if not form.problem]:
        return f"{passed[0]} passes as it is"
    return "" if weight_products(reference.model) else "the network has no products of matrices inside"


def _pruned(cut: Cut, made: Candidate, whole: Candidate, source: Source, whole_source: Source, whole_ms: float) -> PrunedVocabulary:
    """What leaving pieces out gave and cost."""
    pairs = zip(source.gate.feeds, whole_source.gate.feeds, strict=True)
    respelled = sum([cut.kept[i] for i in after["input_ids"][0]] != before["input_ids"][0].tolist() for after, before in pairs)
    return PrunedVocabulary(
        n_pieces_before=cut.n_before,
        n_pieces=len(cut.kept),
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


def _chosen(
    checkpoint: Path, config: ExportConfig, reference: Candidate, others: list[Candidate], not_tried: dict[str, str]
) -> Candidate:
    """The candidate to ship; raises UserError if the one that was asked for is none."""
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
    manifest: Manifest, source: Source, tried: list[Candidate], not_tried: dict[str, str], parity: float, config: ExportConfig
) -> Quality:
    """The evidence, without a date, so that a second export writes the same."""
    return Quality(
        variant=manifest.variant,
        n_validation=source.gate.n_validation,
        n_calibration=len(source.calibration),
        torch_change_max=parity,
        max_drop=config.max_drop,
        min_agreement=config.min_agreement,
        max_change=config.max_change,
        flips_explained=explained_flips(len(source.gate.asks), 1 - config.min_agreement),
        temperature=manifest.temperature,
        onnxruntime=ort.__version__,
        cpu=cpu_name(),
        cpu_flags=machine.cpu()[1],
        forms=[candidate.form for candidate in tried],
        not_tried=not_tried,
    )
