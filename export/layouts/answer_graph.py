"""Put a bundle's temperature and bias inside its graph, for runtimes that do not read `bundle.json`.

The bundle's own graph gives raw logits, so that temperature and bias can change without touching the model. A runtime that only
runs the graph needs them inside it. Axes: B texts in a batch, C classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from potstill.contract.bundle import Manifest
from potstill.export.bundle.distance import without_distance
from potstill.serve.runtime.session import OUTPUT

PROBS = "probs"


def calibrated_logits(model: Path, manifest: Manifest) -> onnx.ModelProto:
    """The graph with calibrated `logits`, float32 [B, C]: divided by the temperature, bias added. Their softmax is the answer.

    Args:
        model: the bundle's `model.onnx`.
        manifest: its temperature, bias and labels.
    """
    graph = without_distance(onnx.load(model))
    return _ending_in(graph, manifest, OUTPUT, softmax=False)


def calibrated_probs(model: Path, manifest: Manifest) -> onnx.ModelProto:
    """The graph with the bundle's probabilities as its one output, `probs`, float32 [B, C], in label order.

    Args:
        model: the bundle's `model.onnx`.
        manifest: its temperature, bias and labels.
    """
    graph = without_distance(onnx.load(model))
    return _ending_in(graph, manifest, PROBS, softmax=True)


def _ending_in(model: onnx.ModelProto, manifest: Manifest, name: str, *, softmax: bool) -> onnx.ModelProto:
    """Append the calibration to the graph, in place, and name its output."""
    graph, raw = model.graph, f"uncalibrated_{OUTPUT}"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [raw if one == OUTPUT else one for one in names]
    bias = manifest.bias or [0.0] * len(manifest.labels)
    graph.initializer.append(numpy_helper.from_array(np.array(1 / manifest.temperature, np.float32), "per_temperature"))
    graph.initializer.append(numpy_helper.from_array(np.array(bias, np.float32), "label_bias"))
    last = "calibrated" if softmax else name
    graph.node.append(helper.make_node("Mul", [raw, "per_temperature"], ["over_temperature"], "over_temperature"))
    graph.node.append(helper.make_node("Add", ["over_temperature", "label_bias"], [last], "add_bias"))
    if softmax:
        graph.node.append(helper.make_node("Softmax", [last], [name], "softmax", axis=-1))
    batch = graph.output[0].type.tensor_type.shape.dim[0].dim_param or "batch"
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, len(manifest.labels)]))
    del graph.value_info[:]  # the session infers shapes itself
    return model
