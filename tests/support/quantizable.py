"""A graph with everything that is quantized, and the measurements of a form that passed."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from potstill.export.gate.quality import FormQuality

FORM = FormQuality(
    variant="static_int8", bytes=100, ms_p50=1.0, n=1000, macro_f1=0.8, log_loss=0.5, ece=0.1, macro_f1_drop=0.0,
    macro_f1_drop_low=-0.01, agreement=1.0, flips=0, prob_change_max=0.01, batch_change_max=0.0, padding_change_max=0.0, operators={},
)  # fmt: skip


V, H, N = 3000, 32, 48


def a_graph(*, shared: bool = False) -> onnx.ModelProto:
    """Two dense layers over an embedding with a few outlier channels, and a head: ids int64 [B, T] in, logits [B, 3] out."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(V, H)) * np.where(np.arange(H) % 16 == 3, 20.0, 1.0)
    weights = {
        "table": table,
        "one": rng.normal(size=(H, N)) / 6,
        "two": rng.normal(size=(N, H)) / 7,
        "head": rng.normal(size=(H, 3)),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"], "gather"),
        helper.make_node("MatMul", ["x", "one"], ["y"], "first"),
        helper.make_node("Tanh", ["y"], ["z"], "tanh"),
        helper.make_node("MatMul", ["z", "two"], ["w"], "second"),
        *([helper.make_node("MatMul", ["w", "one"], ["unused"], "third")] if shared else []),
        helper.make_node("ReduceMean", ["w", "middle"], ["mean"], "mean", keepdims=0),
        helper.make_node("Gemm", ["mean", "head"], ["logits"], "head"),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "T"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 3])]
    outputs += [helper.make_tensor_value_info("unused", TensorProto.FLOAT, ["B", "T", N])] if shared else []
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.array([1]), "middle"))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
