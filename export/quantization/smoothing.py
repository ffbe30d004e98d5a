"""Move outlier activations into the weights, so that one int8 scale per tensor fits both.

A few channels of an encoder's hidden states are many times larger than the others, and one scale has to cover them all.
Dividing channel j of the activations by s_j and multiplying row j of the weights by s_j leaves the product unchanged and evens
out the ranges.

Source: Xiao et al. 2022, SmoothQuant, arXiv:2211.10438, equation 4. The exponent is chosen for each product by its error on
calibration tokens, as in Lin et al. 2023, AWQ, arXiv:2306.00978, section 3.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from potstill.export.quantization.rounding import MIN_MAGNITUDE, Float32Array, Float64Array, round_nearest, safe_steps
from potstill.serve.runtime.denormals import thread_left_as_it_was, with_denormals_as_zero
from potstill.serve.runtime.session import session_options
from potstill.serve.runtime.tokenizer import Feeds

EXPONENTS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # tried beside no smoothing
N_ROWS = 512  # calibration tokens on which the exponents are compared
ACTIVATION_STEPS = 255  # unsigned 8 bits


@dataclass(frozen=True)
class ActivationStats:
    """Statistics of one activation tensor with H channels over the calibration set."""

    low: Float32Array  # [H], minimum over all tokens
    high: Float32Array  # [H], maximum over all tokens
    rows: Float32Array  # [at most N_ROWS, H], tokens at equal steps
    gram: Float64Array  # [H, H], sum over all tokens of their outer products


@dataclass(frozen=True)
class SmoothedGraph:
    """A smoothed graph with the activation statistics that its quantization needs."""

    model: onnx.ModelProto
    ranges: dict[str, tuple[float, float]]  # (low, high) of every tensor to quantize
    grams: dict[str, Float64Array]  # of the same tensors, see ActivationStats


def smooth(model: onnx.ModelProto, feeds: Sequence[Feeds]) -> SmoothedGraph:
    """Smooth every product of activations with constant weights where that lowers its int8 error.

    Args:
        model: a float graph; not changed.
        feeds: calibration set without padding, int64 [B, T] by input name.
    Returns:
        a graph that computes the same, and the ranges of its activations.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in weight_products(copy):
        readers.setdefault(node.input[0], []).append(node)
    ranges, grams, divisions = {}, {}, {}
    for name, seen in observe_activations(model, list(readers), feeds).items():
        names = sorted({node.input[1] for node in readers[name]})
        beside = np.concatenate([numpy_helper.to_array(weights[weight]) for weight in names], axis=1)
        scale = best_scale(seen, beside)
        if scale is None:
            ranges[name], grams[name] = activation_range(seen.low, seen.high), seen.gram
            continue
        ranges[f"{name}_smooth"] = activation_range(seen.low / scale, seen.high / scale)
        grams[f"{name}_smooth"] = seen.gram / np.outer(scale, scale)
        for weight in names:
            scaled = numpy_helper.to_array(weights[weight]) * scale[:, None]
            weights[weight].CopyFrom(numpy_helper.from_array(scaled, weight))
        for node in readers[name]:
            node.input[0] = f"{name}_smooth"
        copy.graph.initializer.append(numpy_helper.from_array(1 / scale, f"{name}_unscale"))
        divisions[name] = helper.make_node("Mul", [name, f"{name}_unscale"], [f"{name}_smooth"], f"{name}_smooth")
    _insert(copy.graph, divisions)
    return SmoothedGraph(copy, ranges, grams)


def weight_products(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The graph's products of activations with constant weights: those that int8 speeds up.

    Left out are the head (its dense layers are `Gemm`) and weights that several nodes read: the session would keep them
    dequantized.
    """
    matrices = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    readers = Counter(name for node in model.graph.node for name in node.input)
    return [
        node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in matrices and readers[node.input[1]] == 1
    ]


def best_scale(seen: ActivationStats, weights: Float32Array) -> Float32Array | None:
    """The channel scales [H] with the least int8 error on the sampled rows; None if no smoothing is best.

    Args:
        seen: statistics of the activations, H channels.
        weights: float [H, N].
    """
    exact = seen.rows @ weights  # [rows, N]
    size_x = np.maximum(np.maximum(np.abs(seen.low), np.abs(seen.high)), MIN_MAGNITUDE)
    size_w = np.maximum(np.abs(weights).max(axis=1), MIN_MAGNITUDE)
    least, best = _error(seen, weights, exact, np.ones_like(size_x)), None
    for exponent in EXPONENTS:
        scale = size_x**exponent / size_w ** (1 - exponent)
        scale /= np.exp(np.log(scale).mean())
        if (error := _error(seen, weights, exact, scale)) < least:
            least, best = error, scale
    return best


def observe_activations(model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feeds]) -> dict[str, ActivationStats]:
    """Run the calibration set through the graph and collect statistics of the named tensors, each float [B, T, H]."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    with thread_left_as_it_was():
        session = ort.InferenceSession(watched.SerializeToString(), session_options(threads=1), providers=["CPUExecutionProvider"])
    n_tokens = sum(_n_tokens(feed) for feed in feeds)
    step, first = max(1, n_tokens // N_ROWS), 0
    lows: dict[str, list[Float32Array]] = {name: [] for name in names}
    highs: dict[str, list[Float32Array]] = {name: [] for name in names}
    rows: dict[str, list[Float32Array]] = {name: [] for name in names}
    grams: dict[str, Float64Array] = {}
    for feed in feeds:
        for name, value in zip(names, with_denormals_as_zero(session.run, list(names), feed), strict=True):
            flat = value.reshape(-1, value.shape[-1])  # [B * T, H]
            lows[name].append(flat.min(axis=0))
            highs[name].append(flat.max(axis=0))
            rows[name].append(flat[-first % step :: step].copy())
            wide = flat.astype(np.float64)  # in float32 the number of threads would change which step a weight is rounded to
            grams[name] = grams.get(name, np.float64(0)) + wide.T @ wide
        first += _n_tokens(feed)
    return {
        name: ActivationStats(
            np.min(lows[name], axis=0), np.max(highs[name], axis=0), np.concatenate(rows[name])[:N_ROWS], grams[name]
        )
        for name in names
    }


def _n_tokens(feed: Feeds) -> int:
    """Number of tokens in a batch, B * T."""
    return int(np.prod(feed["input_ids"].shape[:2]))


def _error(seen: ActivationStats, weights: Float32Array, exact: Float32Array, scale: Float32Array) -> float:
    """Mean squared error of the int8 product of scaled activations and weights."""
    low, high = activation_range(seen.low / scale, seen.high / scale)
    step = (high - low) / ACTIVATION_STEPS or 1.0
    zero = np.rint(-low / step)
    x = (np.clip(np.rint(seen.rows / scale / step) + zero, 0, ACTIVATION_STEPS) - zero) * step
    scaled = weights * scale[:, None]
    w = round_nearest(scaled, safe_steps(scaled))
    return float(np.mean((x.astype(np.float32) @ w.astype(np.float32) - exact) ** 2))


def activation_range(low: Float32Array, high: Float32Array) -> tuple[float, float]:
    """The range of a tensor from the ranges [H] of its channels; it includes 0, as the quantizer requires."""
    return min(float(low.min()), 0.0), max(float(high.max()), 0.0)


def _insert(graph: onnx.GraphProto, after: dict[str, onnx.NodeProto]) -> None:
    """Insert each node right after the one that makes its input, so that the graph stays topologically sorted."""
    nodes = [new for node in graph.node for new in [node, *(after[name] for name in node.output if name in after)]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]  # clearing the list frees its nodes
    del graph.node[:]
    graph.node.extend(copies)
