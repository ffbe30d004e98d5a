from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from potstill.export.bundle.distance import (
    MAX_DIRECTIONS,
    STATE,
    TEXTS_PER_DIRECTION,
    fit_gaussian,
    with_distance,
    with_state,
    without_distance,
)

pytestmark = pytest.mark.slow

WIDTH = 24


def states(n, seed=0):
    """A pool that varies along a few directions, and little along the others."""
    rng = np.random.default_rng(seed)
    wide = rng.normal(size=(n, 4)) @ np.random.default_rng(9).normal(size=(4, WIDTH)) * 3
    return (wide + rng.normal(size=(n, WIDTH)) * 0.1 + 5).astype(np.float32)


def a_graph(opset, n_norms=3):
    """Layer norms one behind the other over a table's rows: ids int64 [B, T] in, logits float32 [B, WIDTH] out."""
    rng = np.random.default_rng(1)
    tensors = {"table": rng.normal(size=(50, WIDTH)), "scale": rng.normal(size=WIDTH), "bias": rng.normal(size=WIDTH)}
    nodes, last = [helper.make_node("Gather", ["table", "input_ids"], ["rows"])], "rows"
    for at in range(n_norms):
        nodes.append(helper.make_node("LayerNormalization", [last, "scale", "bias"], [f"norm{at}"], axis=-1))
        last = f"norm{at}"
    nodes.append(helper.make_node("Gather", [last, "first"], ["logits"], axis=1))
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()]
    constants.append(numpy_helper.from_array(np.array(0), "first"))
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "T"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", WIDTH])]
    graph = helper.make_graph(nodes, "norms", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def run(model, outputs, ids):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(outputs, {"input_ids": ids})


def test_the_distance_is_mahalanobis_with_one_variance_for_what_is_not_kept():
    pool = states(300)
    found = fit_gaussian(pool)
    assert len(found.directions) == min(MAX_DIRECTIONS, 300 // TEXTS_PER_DIRECTION, WIDTH // 2)
    kept = found.directions.T @ np.diag(found.variances - found.rest) @ found.directions
    covariance = kept + found.rest * np.eye(WIDTH)
    fresh = states(20, seed=3).astype(np.float64) - found.mean
    expected = np.sqrt(np.einsum("ij,jk,ik->i", fresh, np.linalg.inv(covariance), fresh))
    np.testing.assert_allclose(found.distances(states(20, seed=3)), expected, rtol=1e-6)


def test_a_state_off_the_pools_directions_is_farther_than_one_far_along_them():
    pool = states(300)
    found = fit_gaussian(pool)
    along = np.sqrt(found.variances[0]) * found.directions[0]
    off = np.linalg.svd(pool - pool.mean(axis=0))[2][-1]
    moved = np.array([found.mean + 3 * along, found.mean + 3 * off], np.float32)
    near, far = found.distances(moved)
    assert near == pytest.approx(3, rel=1e-3) and far > 10


@pytest.mark.parametrize("pool", [states(TEXTS_PER_DIRECTION - 1), np.ones((50, WIDTH), np.float32)])
def test_a_pool_that_is_too_small_or_does_not_vary_has_no_gaussian(pool):
    assert fit_gaussian(pool) is None


@pytest.mark.parametrize("opset", [17, 18])
def test_the_graph_computes_the_same_distance_in_either_form_of_its_reductions(opset):
    model, ids = a_graph(opset), np.random.default_rng(2).integers(0, 50, (200, 7))
    stated = with_state(model)
    onnx.checker.check_model(stated)
    pool = run(stated, [STATE], ids)[0]
    np.testing.assert_allclose(pool, run_norm(model, ids).mean(axis=1), rtol=1e-5, atol=1e-6)
    gaussian = fit_gaussian(pool)
    told = with_distance(stated, gaussian)
    onnx.checker.check_model(told)
    logits, squared = run(told, ["logits", "distance"], ids)
    assert np.array_equal(logits, run(model, ["logits"], ids)[0])
    np.testing.assert_allclose(np.sqrt(squared), gaussian.distances(pool), rtol=1e-3)
    assert without_distance(told).SerializeToString() == model.SerializeToString()


def run_norm(model, ids):
    """The output of the last of three layer norms, which stands at two thirds of them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info("norm2", TensorProto.FLOAT, ["B", "T", WIDTH]))
    return run(copy, ["norm2"], ids)[0]


def test_a_graph_without_layers_has_no_state():
    assert with_state(a_graph(17, n_norms=2)) is None
