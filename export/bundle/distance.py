"""A second output of a graph: how far a text is from the pool in a middle layer, as the squared Mahalanobis distance.

The last layers of a fine-tuned student keep little more than its labels. Two thirds of the way up, the mean over a text's tokens
still shows what the text is about. A Gaussian is fitted to the pool's texts there: the directions in which they vary most with
their own variances, all others with one (Tipping and Bishop 1999, Probabilistic Principal Component Analysis, J. R. Stat. Soc. B).
Axes: B texts in a batch, T tokens, H hidden width, N texts, K directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from potstill.serve.runtime.session import DISTANCE

STATE = "middle_state"  # output of :func:`with_state`
PREFIX = "familiarity_"  # of the names of all operators and tensors that are added
NORMS = frozenset({"LayerNormalization", "SkipLayerNormalization"})
HEIGHT = 2 / 3  # of the layer among all; chosen in benchmarks/promises/unfamiliar.py, as is the next
MAX_DIRECTIONS = 128
TEXTS_PER_DIRECTION = 5
MIN_VARIANCE = 1e-9  # of the directions that are not kept; below, the distance has no scale
_AXES_AS_INPUT = {"ReduceMean": 18, "ReduceSumSquare": 18}  # the first opset in which the axes are an input

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class PoolGaussian:
    """A Gaussian over states [H]: its mean, K orthonormal directions with their variances, and the variance of all others."""

    mean: Float64Array  # [H]
    directions: Float64Array  # [K, H]
    variances: Float64Array  # [K], each at least `rest`
    rest: float

    def distances(self, states: NDArray[np.float32]) -> Float64Array:
        """Mahalanobis distances, float64 [N], of states [N, H]."""
        centred = states - self.mean
        along = centred @ self.directions.T
        squared = (centred**2).sum(axis=1) / self.rest - (along**2 * (1 / self.rest - 1 / self.variances)).sum(axis=1)
        distances: Float64Array = np.sqrt(np.maximum(squared, 0.0))
        return distances


def fit_gaussian(states: NDArray[np.float32]) -> PoolGaussian | None:
    """Fit to the pool's states [N, H]; None if they are too few, or hardly vary."""
    n, width = states.shape
    n_directions = min(MAX_DIRECTIONS, n // TEXTS_PER_DIRECTION, width // 2)
    if n_directions < 1:
        return None
    mean = states.mean(axis=0, dtype=np.float64)
    _, spread, directions = np.linalg.svd(states - mean, full_matrices=False)
    variances = spread**2 / (n - 1)
    rest = float(variances[n_directions:].sum() / (width - n_directions))
    if not rest > MIN_VARIANCE:
        return None
    return PoolGaussian(mean, directions[:n_directions], variances[:n_directions], rest)


def with_state(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The graph with the mean over tokens of a middle layer as a second output, float32 [B, H]; None if it has no such layer.

    Texts must come without padding, which the mean would count.
    """
    norms = [node for node in model.graph.node if node.op_type in NORMS]
    if len(norms) < 3:
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    middle = norms[int(len(norms) * HEIGHT)].output[0]
    copy.graph.node.append(_reduced(copy, "ReduceMean", middle, STATE))
    copy.graph.output.append(helper.make_tensor_value_info(STATE, TensorProto.FLOAT, ["batch", "width"]))
    return copy


def with_distance(stated: onnx.ModelProto, gaussian: PoolGaussian) -> onnx.ModelProto:
    """The graph with the squared distance as its second output, float32 [B]. Args: stated, from :func:`with_state`; not changed."""
    model = onnx.ModelProto()
    model.CopyFrom(stated)
    graph = model.graph
    scale = 1 / gaussian.rest - 1 / gaussian.variances  # at least 0
    constants = {
        "mean": gaussian.mean,
        "directions": (gaussian.directions * np.sqrt(scale)[:, None]).T,  # [H, K]
        "precision": np.array(1 / gaussian.rest),
    }
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), PREFIX + name))
    names = {name: PREFIX + name for name in ("mean", "directions", "precision", "centred", "along", "whole", "scaled", "kept")}
    graph.node.extend(
        [
            helper.make_node("Sub", [STATE, names["mean"]], [names["centred"]], names["centred"]),
            helper.make_node("MatMul", [names["centred"], names["directions"]], [names["along"]], names["along"]),
            _reduced(model, "ReduceSumSquare", names["centred"], names["whole"]),
            helper.make_node("Mul", [names["whole"], names["precision"]], [names["scaled"]], names["scaled"]),
            _reduced(model, "ReduceSumSquare", names["along"], names["kept"]),
            helper.make_node("Sub", [names["scaled"], names["kept"]], [DISTANCE], PREFIX + DISTANCE),
        ]
    )
    others = [one for one in graph.output if one.name != STATE]
    del graph.output[:]
    graph.output.extend(others)
    graph.output.append(helper.make_tensor_value_info(DISTANCE, TensorProto.FLOAT, ["batch"]))
    return model


def without_distance(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove, in place, what :func:`with_state` and :func:`with_distance` added; a graph without it stays as it is."""
    graph = model.graph
    for held in (graph.node, graph.initializer):
        kept = [one for one in held if not one.name.startswith(PREFIX)]
        del held[:]
        held.extend(kept)
    outputs = [one for one in graph.output if one.name not in (STATE, DISTANCE)]
    del graph.output[:]
    graph.output.extend(outputs)
    return model


def _reduced(model: onnx.ModelProto, operator: str, source: str, result: str) -> onnx.NodeProto:
    """A reduction over axis 1, in the form that the graph's opset has."""
    name = PREFIX + result.removeprefix(PREFIX)
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if opset < _AXES_AS_INPUT[operator]:
        return helper.make_node(operator, [source], [result], name, axes=[1], keepdims=0)
    axes = f"{name}_axes"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), axes))
    return helper.make_node(operator, [source, axes], [result], name, keepdims=0)
