"""Build the forms that compete to become the bundle's model, and measure each against the float form."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.system import machine
from potstill.export.config import DYNAMIC, FLOAT, FULL_RANGE, FUSED, STATIC, TRAINED, ExportConfig
from potstill.export.gate import criteria
from potstill.export.gate.graph_checks import loaded_operators, wrong_products
from potstill.export.gate.measurement import form_logits, measure_form, reading_of
from potstill.export.gate.quality import FormQuality
from potstill.export.gate.source import ExportSource, batch_by_length
from potstill.export.gate.speed import answer_times
from potstill.export.graph import NoFormError, export_float, fuse, tool_errors
from potstill.export.quantization.int8 import dynamic_int8, static_int8
from potstill.export.quantization.qat import train_against_int8
from potstill.export.quantization.rounding import NO_PAIR_LIMIT, PAIR_LIMIT, has_int32_sums
from potstill.export.quantization.smoothing import weight_products

_WHOLE = "float_whole_vocabulary"


@dataclass(frozen=True)
class Candidate:
    """A form of the model: its graph and file, its logits on the gate's texts [N, C], and its measurements."""

    model: onnx.ModelProto
    path: Path
    logits: NDArray[np.float32]
    form: FormQuality


def float_form(raw: onnx.ModelProto, source: ExportSource, config: ExportConfig, scratch: Path) -> Candidate:
    """The float graph as the reference that the other forms are compared with."""
    return _measure(FLOAT, raw, None, source, config, scratch)


def int8_and_fused_forms(
    reference: Candidate, source: ExportSource, config: ExportConfig, scratch: Path
) -> tuple[list[Candidate], dict[str, str]]:
    """Build and judge the wanted forms beside float.

    Args:
        reference: the float form.
        source: the checkpoint's content.
        config: the wanted forms and the limits.
        scratch: a folder for the forms' files, which stay there.
    Returns:
        (the forms, not yet timed; the reason for each that could not be built, by name).
    """
    made, not_tried = [], {}
    try:
        fused = fuse(reference.model, source.checkpoint, scratch)
    except NoFormError:
        fused = None
    for variant in config.wanted:
        if variant == FLOAT:
            continue
        reason = _why_not(variant, reference.model, fused)
        if reason:
            not_tried[variant] = reason
            continue
        try:
            model = _build(variant, reference.model, fused, source, scratch)
            made.append(_measure(variant, model, reference, source, config, scratch))
        except NoFormError as error:
            not_tried[variant] = str(error)
    return made, not_tried


def trained_form(reference: Candidate, source: ExportSource, config: ExportConfig, scratch: Path) -> Candidate:
    """Train the checkpoint against int8 and judge its static int8 form against the original float form.

    Args:
        reference: the float form.
        source: the checkpoint's content; the gate's texts are not trained on.
        config: the limits.
        scratch: a folder for files.
    Raises:
        NoFormError: if onnxruntime cannot make it.
    """
    checkpoint, graph = scratch / "trained", scratch / "trained-graph"
    checkpoint.mkdir()
    graph.mkdir()
    texts = [*source.calibration, *(source.tokenize.ids(*one) for one in source.unused)]
    train_against_int8(source.checkpoint, batch_by_length(texts), checkpoint, threads=config.threads)
    raw = export_float(checkpoint, graph, source.student.max_tokens)
    model = static_int8(fuse(raw, checkpoint, graph) or raw, batch_by_length(source.calibration), graph)
    return _measure(TRAINED, model, reference, source, config, scratch)


def pruned_float_form(
    raw: onnx.ModelProto, whole: Candidate, source: ExportSource, config: ExportConfig, scratch: Path
) -> Candidate:
    """Judge the float graph with a pruned vocabulary; it keeps the whole one's logits as the reference for other forms.

    Args:
        raw: the float graph with the pruned vocabulary.
        whole: the float form with the whole vocabulary, measured on the same texts in the same order.
        source: the pruned checkpoint's content.
        config: the limits.
        scratch: a folder for files; not the one of `whole`.
    Raises:
        UserError: if a limit is exceeded.
    """
    made = _measure(FLOAT, raw, whole, source, config, scratch)
    if made.form.problem:
        raise UserError(
            f"{config.prune_vocab}: leaves too few pieces: {made.form.problem}; give more texts, or leave out --prune-vocab"
        )
    return Candidate(raw, made.path, whole.logits, made.form)


def time_forms(
    candidates: list[Candidate], source: ExportSource, whole: tuple[Candidate, ExportSource] | None = None
) -> tuple[list[Candidate], float]:
    """Time the candidates, and the float form with the whole vocabulary where there is one.

    Returns:
        (the candidates with their times, milliseconds of the whole float form or 0).
    """
    timed = {one.form.variant: (one.path, source.tokenize) for one in candidates}
    if whole is not None:
        timed[_WHOLE] = (whole[0].path, whole[1].tokenize)
    times = answer_times(timed, source.gate.texts)
    made = [
        Candidate(one.model, one.path, one.logits, msgspec.structs.replace(one.form, ms_p50=times[one.form.variant]))
        for one in candidates
    ]
    return made, times.get(_WHOLE, 0.0)


def _why_not(variant: str, raw: onnx.ModelProto, fused: onnx.ModelProto | None) -> str:
    """Why a form cannot be built from this graph, or not measured on this machine; empty if it can."""
    if variant == FUSED and fused is None:
        return "onnxruntime has no fused operators for this kind of network"
    if variant in (DYNAMIC, FULL_RANGE) and not weight_products(raw):
        return f"the network has no products of matrices inside, only a table and a head; {STATIC} is all there is to gain"
    if variant == FULL_RANGE and not has_int32_sums(machine.cpu()[1]):
        return "this machine's processor adds int8 products in 16 bits, where full range overflows; export on one with VNNI"
    return ""


def _build(
    variant: str, raw: onnx.ModelProto, fused: onnx.ModelProto | None, source: ExportSource, scratch: Path
) -> onnx.ModelProto:
    """Build a form's graph; `_why_not` has no objection."""
    if variant == FUSED and fused is not None:
        return fused
    if variant == DYNAMIC:
        return dynamic_int8(raw, scratch)
    pair_limit = NO_PAIR_LIMIT if variant == FULL_RANGE else PAIR_LIMIT
    return static_int8(fused or raw, batch_by_length(source.calibration), scratch, pair_limit)


def _measure(
    variant: str, model: onnx.ModelProto, reference: Candidate | None, source: ExportSource, config: ExportConfig, scratch: Path
) -> Candidate:
    """Write, load, measure and judge a form; without a reference it is the reference, and passes."""
    path = scratch / f"{variant}.model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    with tool_errors() if reference is not None else nullcontext():
        operators = loaded_operators(model, scratch)
        logits = form_logits(path, source.gate.feeds, config.threads)
    compared = logits if reference is None else reference.logits
    form = measure_form(variant, path, logits, compared, source.gate, reading_of(source.student))
    form = msgspec.structs.replace(form, operators=operators)
    if reference is None:
        return Candidate(model, path, logits, form)
    wrong = "" if variant in (FLOAT, FUSED) else wrong_products(variant, operators, len(weight_products(reference.model)))
    problem = wrong or criteria.refusal(form, config)
    note = "" if problem else criteria.caveat(form, config)
    return Candidate(model, path, logits, msgspec.structs.replace(form, problem=problem, note=note))
