from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from potstill.export.quantization.smoothing import N_ROWS, ActivationStats, best_scale, observe_activations, smooth
from potstill.serve.runtime.session import session_options

H, N = 16, 24
FEEDS = [{"x": np.random.default_rng(i).normal(size=(1, 3 + i, H)).astype(np.float32)} for i in range(8)]
FEEDS = [{"input_ids": feed["x"] * np.where(np.arange(H) == 2, 30, 1).astype(np.float32)} for feed in FEEDS]


def a_graph() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(H, N)).astype(np.float32) for name in ("one", "two")}
    nodes = [
        helper.make_node("Identity", ["input_ids"], ["x"], "in"),
        helper.make_node("MatMul", ["x", "one"], ["a"], "first"),
        helper.make_node("MatMul", ["x", "two"], ["b"], "second"),
        helper.make_node("Add", ["a", "b"], ["y"], "add"),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", "T", size]) for name, size in (("input_ids", H), ("y", N))
    ]
    graph = helper.make_graph(
        nodes, "g", values[:1], values[1:], [numpy_helper.from_array(value, name) for name, value in weights.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def outputs(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), session_options(threads=1), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["y"], feed)[0][0] for feed in FEEDS])


def seen(rows: np.ndarray) -> ActivationStats:
    return ActivationStats(rows.min(axis=0), rows.max(axis=0), rows, rows.T @ rows)


def test_smoothing_computes_what_the_graph_did():
    smoothed = smooth(a_graph(), FEEDS)
    assert list(smoothed.ranges) == ["x_smooth"]
    np.testing.assert_allclose(outputs(smoothed.model), outputs(a_graph()), atol=1e-3)


def test_the_range_is_that_of_the_smoothed_tensor_and_holds_zero():
    smoothed = smooth(a_graph(), FEEDS)
    unscale = next(numpy_helper.to_array(tensor) for tensor in smoothed.model.graph.initializer if tensor.name == "x_unscale")
    rows = np.concatenate([feed["input_ids"][0] for feed in FEEDS]) * unscale
    low, high = smoothed.ranges["x_smooth"]
    assert (low, high) == (pytest.approx(rows.min(), rel=1e-5), pytest.approx(rows.max(), rel=1e-5))
    assert low <= 0 <= high


def test_the_graph_that_was_given_stays_as_it_was():
    model = a_graph()
    before = model.SerializeToString(deterministic=True)
    smooth(model, FEEDS)
    assert model.SerializeToString(deterministic=True) == before


def test_an_outlier_channel_is_scaled_down_most():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, H)).astype(np.float32)
    rows[:, 5] *= 40
    scale = best_scale(seen(rows), rng.normal(size=(H, N)).astype(np.float32))
    assert scale is not None
    assert scale.argmax() == 5
    assert np.exp(np.log(scale).mean()) == pytest.approx(1, rel=1e-4)


def test_even_channels_and_weights_are_left_alone():
    rows = np.random.default_rng(0).uniform(-1, 1, size=(300, H)).astype(np.float32)
    rows[0], rows[1] = -1, 1
    assert best_scale(seen(rows), np.eye(H, dtype=np.float32)) is None


def test_calibration_sees_the_extremes_of_all_tokens_and_keeps_rows_at_equal_steps():
    found = observe_activations(a_graph(), ["x"], FEEDS)["x"]
    every = np.concatenate([feed["input_ids"][0] for feed in FEEDS])
    np.testing.assert_array_equal(found.low, every.min(axis=0))
    np.testing.assert_array_equal(found.high, every.max(axis=0))
    np.testing.assert_array_equal(found.rows, every)  # fewer than are kept
    wide = every.astype(np.float64)
    np.testing.assert_allclose(found.gram, wide.T @ wide, rtol=1e-12, atol=1e-10)  # whatever the order of the sum
    many = observe_activations(a_graph(), ["x"], FEEDS * 40)["x"]
    step = len(every) * 40 // N_ROWS
    np.testing.assert_array_equal(many.rows, np.tile(every, (40, 1))[::step][:N_ROWS])


def test_what_is_known_of_the_activations_together_is_that_of_the_smoothed_tensor():
    smoothed = smooth(a_graph(), FEEDS)
    unscale = next(numpy_helper.to_array(tensor) for tensor in smoothed.model.graph.initializer if tensor.name == "x_unscale")
    rows = np.concatenate([feed["input_ids"][0] for feed in FEEDS]) * unscale
    np.testing.assert_allclose(smoothed.grams["x_smooth"], rows.T @ rows, rtol=1e-3, atol=1e-2)
