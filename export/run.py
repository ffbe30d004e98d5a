"""From a checkpoint to a proved bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort

from contract.bundle import Manifest
from contract.checkpoint import read_student
from contract.errors import UserError
from export import cpu
from export.assemble import Parts, write_bundle
from export.config import AUTO, FLOAT, ExportConfig
from export.forms import Candidate, fastest, float_form, int8_and_fused_forms, timed
from export.graph import export_float
from export.manifest import manifest_of
from export.noise import explained_flips
from export.parity import check_parity
from export.quality import Quality
from export.report import ExportReport
from export.source import Source, read_source
from serve.this_machine import cpu_name

Progress = Callable[[str, int, int], None]


def export_bundle(checkpoint: Path, bundle: Path, config: ExportConfig, progress: Progress | None = None) -> ExportReport:
    """Write a checkpoint as a bundle in the fastest form that passes the gate.

    Every form that was tried is in the report with its numbers, and with the reason where it was refused. Float always passes.
    A bundle that is already there is replaced by a proved one only. Two exports on one machine are equal, byte for byte.

    Args:
        checkpoint: the trainer's folder.
        bundle: the folder to write.
        config: the gate.
        progress: is told (stage, done, total).
    Raises:
        FormatError: if the checkpoint is incomplete or malformed, or cannot be exported.
        UserError: if a form that was asked for does not pass, or the bundle cannot be written or proved.
    """
    tell = progress or (lambda stage, done, total: None)
    with tempfile.TemporaryDirectory(prefix="potstill-export-") as folder:
        scratch = Path(folder)
        tell("export", 0, 4)
        student = read_student(checkpoint)
        raw = export_float(checkpoint, scratch)
        inputs = [node.name for node in raw.graph.input]
        source = read_source(checkpoint, student, inputs, Path(config.pool) if config.pool else None)
        reference = float_form(raw, source, config, scratch)
        parity = check_parity(checkpoint, source.gate.feeds, reference.logits)
        tell("quantize", 1, 4)
        others, not_tried = int8_and_fused_forms(reference, source, config, scratch)
        tell("measure", 2, 4)
        reference, *others = timed([reference, *others], source)
        chosen = _chosen(checkpoint, config, reference, others, not_tried)
    tell("prove", 3, 4)
    manifest = manifest_of(chosen, reference, source)
    quality = _quality(manifest, source, [reference, *others], not_tried, parity, config)
    write_bundle(bundle, Parts(checkpoint, source.task, chosen.model, manifest, quality))
    tell("done", 4, 4)
    return ExportReport(bundle, manifest, quality, sum(path.stat().st_size for path in bundle.iterdir()))


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
            raise UserError(f"{checkpoint}: {config.variant} does not pass: {asked.form.problem}; {allow}")
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
        cpu_flags=cpu.flags(),
        forms=[candidate.form for candidate in tried],
        not_tried=not_tried,
    )
