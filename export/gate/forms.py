"""The forms that compete to become the bundle's model: each one built from the float graph, loaded, and measured."""

from __future__ import annotations

from collections.abc import Collection
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
from potstill.export.gate.quality import FormQuality
from potstill.export.gate.source import ExportSource
from potstill.export.gate.speed import answer_times
from potstill.export.graph import export_float, fuse
from potstill.export.quantization.calibration_texts import batch_by_length
from potstill.export.quantization.int8 import dynamic_int8, static_int8
from potstill.export.quantization.qat import train_against_int8
from potstill.export.quantization.rounding import FULL_RANGE as NO_PAIR_LIMIT
from potstill.export.quantization.rounding import PAIR_LIMIT
from potstill.export.quantization.smoothing import weight_products

# In the words of /proc/cpuinfo. With one of VNNI, sums of int8 products have 32 bits; the other x86 processors add pairs in 16.
VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
DOT_PRODUCTS = frozenset({"asimddp", "i8mm"})  # what ARM calls its instructions that do the same


def has_int32_sums(flags: Collection[str]) -> bool:
    """Whether products of full-range weights cannot overflow on a processor with these flags, see `contract/system/machine.py`."""
    return not (VNNI | DOT_PRODUCTS).isdisjoint(flags)


_WHOLE = "float_whole_vocabulary"
TIE = 0.15  # of the fastest form's time: closer ones are as fast as far as a busy machine can tell, and the smallest is taken


@dataclass(frozen=True)
class Candidate:
    """A form of the model, its file, its logits on the gate's texts [N, C], and its row of the table."""

    model: onnx.ModelProto
    path: Path
    logits: NDArray[np.float32]
    form: FormQuality


def float_form(raw: onnx.ModelProto, source: ExportSource, config: ExportConfig, scratch: Path) -> Candidate:
    """The float graph as the form that the others are held against."""
    return _measured(FLOAT, raw, None, source, config, scratch)


def int8_and_fused_forms(
    reference: Candidate, source: ExportSource, config: ExportConfig, scratch: Path
) -> tuple[list[Candidate], dict[str, str]]:
    """(the wanted forms beside float, measured and judged but not timed; why the others could not be built, by name).

    Args:
        reference: the float form.
        source: the checkpoint's content.
        config: which forms are wanted, and the gate.
        scratch: a folder for the forms' files, which stay there.
    """
    fused = fuse(reference.model, source.checkpoint, scratch)
    made, not_tried = [], {}
    for variant in config.wanted:
        if variant == FLOAT:
            continue
        reason = _why_not(variant, reference.model, fused)
        if reason:
            not_tried[variant] = reason
            continue
        model = _build(variant, reference.model, fused, source, scratch)
        made.append(_measured(variant, model, reference, source, config, scratch))
    return made, not_tried


def trained_form(reference: Candidate, source: ExportSource, config: ExportConfig, scratch: Path) -> Candidate:
    """The static int8 form of the checkpoint once it was trained against int8, held against the float form of before.

    Args:
        reference: the float form.
        source: the checkpoint's content; the texts of the gate are not trained on.
        config: the gate.
        scratch: a folder for files.
    """
    checkpoint, graph = scratch / "trained", scratch / "trained-graph"
    checkpoint.mkdir()
    graph.mkdir()
    texts = [*source.calibration, *(source.tokenize.ids(*ask) for ask in source.unused)]
    train_against_int8(source.checkpoint, batch_by_length(texts), checkpoint, threads=config.threads)
    raw = export_float(checkpoint, graph, source.student.max_tokens)
    model = static_int8(fuse(raw, checkpoint, graph) or raw, batch_by_length(source.calibration), graph)
    return _measured(TRAINED, model, reference, source, config, scratch)


def pruned_float_form(
    raw: onnx.ModelProto, whole: Candidate, source: ExportSource, config: ExportConfig, scratch: Path
) -> Candidate:
    """The float graph of a pruned vocabulary, held against the whole one, whose logits the other forms are held against too.

    Args:
        raw: the float graph with fewer pieces.
        whole: the float form with all of them; its texts are the same, in the same order.
        source: the pruned checkpoint's content.
        config: the gate.
        scratch: another folder than that of the whole one.
    Raises:
        UserError: if too much changes.
    """
    made = _measured(FLOAT, raw, whole, source, config, scratch)
    if made.form.problem:
        raise UserError(
            f"{config.prune_vocab}: leaves too few pieces: {made.form.problem}; give more texts, or leave out --prune-vocab"
        )
    return Candidate(raw, made.path, whole.logits, made.form)


def timed(
    candidates: list[Candidate], source: ExportSource, whole: tuple[Candidate, ExportSource] | None = None
) -> tuple[list[Candidate], float]:
    """(the candidates with the time of one answer, that of the float form with its whole vocabulary or 0)."""
    asked = {one.form.variant: (one.path, source.tokenize) for one in candidates}
    if whole is not None:
        asked[_WHOLE] = (whole[0].path, whole[1].tokenize)
    times = answer_times(asked, source.gate.asks)
    made = [
        Candidate(one.model, one.path, one.logits, msgspec.structs.replace(one.form, ms_p50=times[one.form.variant]))
        for one in candidates
    ]
    return made, times.get(_WHOLE, 0.0)


def fastest(forms: list[FormQuality]) -> FormQuality | None:
    """Of the forms that passed the one that answers fastest, and of those about as fast the smallest; None if none passed."""
    passed = [form for form in forms if not form.problem]
    if not passed:
        return None
    least = min(form.ms_p50 for form in passed)
    return min((form for form in passed if form.ms_p50 <= least * (1 + TIE)), key=lambda form: (form.bytes, form.ms_p50))


def _why_not(variant: str, raw: onnx.ModelProto, fused: onnx.ModelProto | None) -> str:
    """Why a form cannot be built from this graph or measured here, or nothing."""
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
    """A form's graph; nothing hinders it."""
    if variant == FUSED and fused is not None:
        return fused
    if variant == DYNAMIC:
        return dynamic_int8(raw, scratch)
    pair_limit = NO_PAIR_LIMIT if variant == FULL_RANGE else PAIR_LIMIT
    return static_int8(fused or raw, batch_by_length(source.calibration), scratch, pair_limit)


def _measured(
    variant: str, model: onnx.ModelProto, reference: Candidate | None, source: ExportSource, config: ExportConfig, scratch: Path
) -> Candidate:
    """Load, measure and judge a form; without a reference it is the reference, which passes."""
    path = scratch / f"{variant}.model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    operators = loaded_operators(model, scratch)
    found = criteria.logits(path, source.gate.feeds, config.threads)
    base = found if reference is None else reference.logits
    form = criteria.measure(variant, path, found, base, source.gate, source.student.temperature)
    form = msgspec.structs.replace(form, operators=operators)
    if reference is None:
        return Candidate(model, path, found, form)
    wrong = "" if variant in (FLOAT, FUSED) else wrong_products(variant, operators, len(weight_products(reference.model)))
    problem = wrong or criteria.problem(form, config)
    note = "" if problem else criteria.note(form, config)
    return Candidate(model, path, found, msgspec.structs.replace(form, problem=problem, note=note))
