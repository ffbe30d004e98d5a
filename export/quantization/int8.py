"""Static and dynamic int8 forms of a float graph, made with onnxruntime's quantizer.

Both compute the products of activations with constant weights in int8 and everything else in float: attention scores, layer norms,
and the classification head (whose dense layers are `Gemm`, not `MatMul`). On x86 without VNNI the sum of two full-range products
overflows the instruction's 16 bits. So dynamic weights get 7 bits per channel, and static weights share 8 bits in pairs
(`rounding.py`), unless the form is meant for processors with VNNI only. Embedding tables get 8 bits per row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from potstill.export.graph import CONTRIB_DOMAIN, infer_shapes, quiet, strip_metadata, temporary_files_in, tool_errors
from potstill.export.quantization.rounding import PAIR_LIMIT, Float64Array, best_steps, round_compensated
from potstill.export.quantization.smoothing import smooth, weight_products
from potstill.serve.runtime.tokenizer import Feeds

MIN_TABLE_SIZE = 32_768  # elements of an embedding table; smaller ones are not worth the extra operators


def static_int8(model: onnx.ModelProto, feeds: Sequence[Feeds], scratch: Path, pair_limit: int = PAIR_LIMIT) -> onnx.ModelProto:
    """Quantize with activation ranges from a calibration set, so that an answer does not depend on its batch.

    Args:
        model: the float graph, fused or not; not changed.
        feeds: calibration set, at least one batch of texts of one length, int64 [B, T] by input name.
        scratch: a folder for intermediate files.
        pair_limit: limit on neighbouring weights, see `rounding.py`.
    """
    if not weight_products(model):  # a static student: only its embedding table can be quantized
        return int8_embeddings(model)
    smoothed = smooth(int8_embeddings(model), feeds)
    typed = infer_shapes(smoothed.model)  # without types, fused graphs get weight-only products, slower than float
    overrides = {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in smoothed.ranges.items()}
    overrides |= _rounded_weights(typed, smoothed.grams, pair_limit)
    target = scratch / "static.onnx"
    with quiet(), tool_errors(), temporary_files_in(scratch):
        quantize_static(
            typed,
            target,
            _CalibrationReader(feeds[:1]),  # the quantizer insists on calibrating; its ranges are overridden
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=[node.name for node in weight_products(typed)],  # the static quantizer ignores MatMulConstBOnly
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "OpTypesToExcludeOutputQuantization": [
                    "MatMul"
                ],  # products come out in float, for the residual stream and layer norms
                "TensorQuantOverrides": overrides,
            },
        )
    quantized = onnx.load(target)
    if not any(node.domain == CONTRIB_DOMAIN for node in typed.graph.node):
        # The session infers shapes itself; ours merge a byte network's length with its length in whole blocks.
        del quantized.graph.value_info[:]
    return strip_metadata(quantized)


def dynamic_int8(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """Quantize with activation ranges taken from each batch at run time; an answer then depends on its batch.

    Args:
        model: the float graph; not changed.
        scratch: a folder for intermediate files.
    """
    if not weight_products(model):
        return int8_embeddings(model)
    target = scratch / "dynamic.onnx"
    with quiet(), tool_errors(), temporary_files_in(scratch):
        quantize_dynamic(
            int8_embeddings(model),
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=[node.name for node in weight_products(model)],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )
    return strip_metadata(onnx.load(target))


def int8_embeddings(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large embedding tables as int8 with one scale per row; a value moves by at most half its row's scale."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    tables = {tensor.name: tensor for tensor in graph.initializer if _is_table(tensor)}
    readers = Counter(name for node in graph.node for name in node.input if name in tables)
    gathers = [node for node in graph.node if node.op_type == "Gather" and node.input[0] in tables and not _axis(node)]
    done = [name for name in tables if readers[name] == sum(node.input[0] == name for node in gathers)]  # read only by gathers
    for name in done:
        rows = numpy_helper.to_array(tables[name])  # [V, H]
        scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12) / 127  # [V, 1]
        graph.initializer.remove(tables[name])
        graph.initializer.append(numpy_helper.from_array(np.rint(rows / scale).astype(np.int8), f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_row_scale"))
    nodes = [
        new for node in graph.node for new in (_dequantized(node) if node.op_type == "Gather" and node.input[0] in done else [node])
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    return copy


def _rounded_weights(model: onnx.ModelProto, grams: dict[str, Float64Array], pair_limit: int) -> dict[str, list[dict[str, Any]]]:
    """Round the weights of the products to int8 steps, in place; returns the steps as the quantizer's overrides."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    grids = {}
    for node in weight_products(model):
        activation, name = node.input
        exact = numpy_helper.to_array(weights[name])
        steps = best_steps(exact, pair_limit)
        weights[name].CopyFrom(numpy_helper.from_array(round_compensated(exact, grams[activation], steps, pair_limit), name))
        grids[name] = [{"axis": 1, "scale": step, "zero_point": np.int8(0)} for step in steps.astype(np.float32)]
    return grids


class _CalibrationReader(CalibrationDataReader):
    """Iterate over calibration batches as the quantizer expects it."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        """Start at the first batch."""
        self._rest: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:
        """The next batch, or None after the last."""
        return next(self._rest, None)


def _is_table(tensor: TensorProto) -> bool:
    """True for a large float matrix."""
    return tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2 and tensor.dims[0] * tensor.dims[1] >= MIN_TABLE_SIZE


def _axis(gather: onnx.NodeProto) -> int:
    """The axis attribute of a Gather node."""
    return next((attribute.i for attribute in gather.attribute if attribute.name == "axis"), 0)


def _dequantized(gather: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Nodes that replace a gather from a float table: gather the int8 rows and their scales, and multiply."""
    table, ids, output = gather.input[0], gather.input[1], gather.output[0]
    name = gather.name or output
    return [
        helper.make_node("Gather", [f"{table}_int8", ids], [f"{output}_row"], f"{name}_int8"),
        helper.make_node("Gather", [f"{table}_row_scale", ids], [f"{output}_row_scale"], f"{name}_scale"),
        helper.make_node("Cast", [f"{output}_row"], [f"{output}_row_float"], f"{name}_cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{output}_row_float", f"{output}_row_scale"], [output], f"{name}_mul"),
    ]
