"""From a checkpoint to a proved bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from contract.bundle import FORMAT, Manifest, Provenance
from contract.checkpoint import read_student
from contract.errors import UserError
from contract.metrics import scores
from export import gate
from export.assemble import Parts, write_bundle
from export.calibrate import corrected_temperature
from export.config import AUTO, VARIANTS, ExportConfig
from export.gate import Form, Quality
from export.graph import export_float, fuse
from export.quantize import dynamic_int8, static_int8, wrong_products
from export.smooth import weight_products
from export.source import Source, read_source
from export.thresholds import carried_sets, carried_thresholds
from serve.classifier import softmax
from serve.this_machine import cpu_name, this_machine

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ExportReport:
    """What was written, and why in this form."""

    bundle: Path
    manifest: Manifest
    quality: Quality
    size_bytes: int

    def as_text(self) -> str:
        """A table of the forms that were tried, and one line on the one that was chosen."""
        head = (
            f"{'form':<13}{'macro-F1':>9}{'log-loss':>9}{'same label':>11}{'most change':>12}{'in a batch':>11}{'MB':>7}  verdict"
        )
        lines = [
            f"{form.variant:<13}{form.macro_f1:>9.4f}{form.log_loss:>9.4f}{form.agreement:>11.4f}{form.prob_change_max:>12.4f}"
            f"{form.batch_change_max:>11.2g}{form.bytes / 1e6:>7.1f}  {form.problem or 'passed'}"
            for form in self.quality.forms
        ]
        invariant = "the same in any batch" if self.manifest.batch_invariant else "not the same in every batch"
        said = f"{self.bundle}: {self.manifest.variant}, {self.size_bytes / 1e6:.1f} MB, answers are {invariant}"
        n, more = self.quality.n_validation, self.quality.forms[0].n - self.quality.n_validation
        texts = f"on {n} validation texts" + (f" and {more} training texts that the quantizer has not seen" if more else "")
        return "\n".join([f"{texts}:", head, *lines, said])


@dataclass(frozen=True)
class _Candidate:
    """A form of the model, its logits on the gate's texts [N, C], and its row."""

    model: onnx.ModelProto
    logits: NDArray[np.float32]
    form: Form


def export_bundle(checkpoint: Path, bundle: Path, config: ExportConfig, progress: Progress | None = None) -> ExportReport:
    """Write a checkpoint as a bundle in the first form that passes the gate.

    Forms are tried in the order static int8, dynamic int8, float; each one that fails is in the report with its reason.
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
    wanted = VARIANTS if config.variant == AUTO else (config.variant,)
    if not set(wanted) <= set(VARIANTS):
        raise UserError(f"variant is {config.variant!r}; allowed: {AUTO}, {', '.join(VARIANTS)}")
    tell = progress or (lambda stage, done, total: None)
    with tempfile.TemporaryDirectory(prefix="potstill-export-") as folder:
        scratch = Path(folder)
        tell("export", 0, 4)
        student = read_student(checkpoint)
        raw = export_float(checkpoint, scratch)
        source = read_source(checkpoint, student, [node.name for node in raw.graph.input])
        tell("quantize", 1, 4)
        reference = _candidate("float", raw, None, source, config, scratch)
        parity = gate.check_parity(checkpoint, source.gate.feeds, reference.logits)
        tried = [reference]
        chosen = next(_passing(wanted, tried, source, config, scratch), None)
    if chosen is None:
        found = tried[-1].form
        raise UserError(
            f"{checkpoint}: {found.variant} does not pass: {found.problem}; allow more with --max-drop, or use --variant {AUTO}"
        )
    tell("prove", 3, 4)
    manifest = _manifest(source, reference, chosen)
    quality = _quality(manifest, source.gate.n_validation, [candidate.form for candidate in tried], parity, config)
    write_bundle(bundle, Parts(checkpoint, source.task, chosen.model, manifest, quality))
    tell("done", 4, 4)
    return ExportReport(bundle, manifest, quality, sum(path.stat().st_size for path in bundle.iterdir()))


def _passing(
    wanted: tuple[str, ...], tried: list[_Candidate], source: Source, config: ExportConfig, scratch: Path
) -> Iterator[_Candidate]:
    """The wanted forms that pass, made one at a time; all that were made are added to `tried`, whose first is float."""
    reference = tried[0]
    for variant in wanted:
        if variant == "float":
            yield reference
            continue
        model = _quantized(variant, reference.model, source, scratch)
        wrong = wrong_products(model, len(weight_products(reference.model)), scratch)
        candidate = _candidate(variant, model, reference, source, config, scratch, wrong)
        tried.append(candidate)
        if not candidate.form.problem:
            yield candidate


def _quantized(variant: str, raw: onnx.ModelProto, source: Source, scratch: Path) -> onnx.ModelProto:
    """An int8 form of the float graph."""
    if variant == "dynamic_int8":
        return dynamic_int8(raw, scratch)
    return static_int8(fuse(raw, source.checkpoint, scratch) or raw, source.calibration, scratch)


def _candidate(
    variant: str,
    model: onnx.ModelProto,
    reference: _Candidate | None,
    source: Source,
    config: ExportConfig,
    scratch: Path,
    wrong: str = "",
) -> _Candidate:
    """Measure a form; without a reference it is the reference. `wrong` is a problem found already."""
    path = scratch / f"{variant}.model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    found = gate.logits(path, source.gate.feeds, config.threads)
    base = found if reference is None else reference.logits
    form = gate.measure(variant, path, found, base, source.gate, source.student.temperature)
    if reference is not None:
        wrong = wrong or gate.problem(form, reference.form, config.max_drop, config.min_agreement)
    return _Candidate(model, found, msgspec.structs.replace(form, problem=wrong))


def _manifest(source: Source, reference: _Candidate, chosen: _Candidate) -> Manifest:
    """How the chosen form's logits become answers, and what they are worth."""
    student, on = source.student, source.gate
    held_out = slice(on.n_validation)
    float_logits, logits = (candidate.logits[held_out] for candidate in (reference, chosen))
    temperature = corrected_temperature(
        student.temperature, float_logits.astype(np.float64), logits.astype(np.float64), on.targets[held_out]
    )
    probs = softmax(logits, temperature)
    own = softmax(float_logits, student.temperature)
    return Manifest(
        format=FORMAT,
        name=student.task_name,
        labels=student.labels,
        target=student.target,
        max_tokens=student.max_tokens,
        temperature=temperature,
        thresholds=carried_thresholds(student.thresholds, student.labels, own, probs) if student.precision else student.thresholds,
        variant=chosen.form.variant,
        batch_invariant=chosen.form.batch_change_max <= gate.INVARIANT,
        scores={"validation": scores(probs, on.majority[held_out])},
        precision=student.precision,
        conformal=carried_sets(student.conformal, own, probs),
        label_shares=_mean_shares(student.labels, probs),
        provenance=Provenance(
            task_digest=student.task_digest,
            teacher_digest=student.teacher_digest,
            backbone=student.backbone,
            backbone_digest=student.backbone_digest,
            soft_labels_digest=student.soft_labels_digest,
            loss=student.loss,
            n_train=student.n_train,
        ),
        machine=this_machine(),
    )


def _mean_shares(labels: list[str], probs: NDArray[np.float64]) -> dict[str, float]:
    """By label: its mean probability over the texts [N, C], which is what this form takes to be the label's share."""
    shares = probs.mean(axis=0)
    return dict(zip(labels, (shares / shares.sum()).tolist(), strict=True))


def _quality(manifest: Manifest, n_validation: int, forms: list[Form], parity: float, config: ExportConfig) -> Quality:
    """The evidence, without a time or a date, so that a second export writes the same."""
    return Quality(
        variant=manifest.variant,
        n_validation=n_validation,
        torch_change_max=parity,
        max_drop=config.max_drop,
        min_agreement=config.min_agreement,
        temperature=manifest.temperature,
        onnxruntime=ort.__version__,
        cpu=cpu_name(),
        forms=forms,
    )
