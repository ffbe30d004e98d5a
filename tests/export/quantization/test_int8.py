from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from support.tiny_checkpoint import H, N, V, a_graph

from potstill.export.config import DYNAMIC, STATIC
from potstill.export.gate.graph_checks import loaded_operators, wrong_products
from potstill.export.quantization.int8 import dynamic_int8, int8_embeddings, static_int8
from potstill.export.quantization.rounding import NO_PAIR_LIMIT, PAIR_LIMIT
from potstill.export.quantization.smoothing import weight_products
from potstill.serve.runtime.session import session_options

FEEDS = [{"input_ids": np.random.default_rng(i).integers(0, V, (1, 5 + i))} for i in range(20)]


def logits(model: onnx.ModelProto, feeds=FEEDS) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), session_options(threads=1), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], feed)[0] for feed in feeds])


def test_the_head_and_activations_are_not_counted_as_products_with_weights():
    assert [node.name for node in weight_products(a_graph())] == ["first", "second"]


def test_an_embedding_row_moves_by_at_most_half_a_step_of_its_own():
    model = int8_embeddings(a_graph())
    parts = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    table = numpy_helper.to_array(next(tensor for tensor in a_graph().graph.initializer if tensor.name == "table"))
    assert (parts["table_int8"].dtype, parts["table_row_scale"].shape) == (np.int8, (V, 1))
    assert "table" not in parts
    assert np.all(np.abs(parts["table_int8"] * parts["table_row_scale"] - table) <= parts["table_row_scale"] / 2 + 1e-6)
    assert np.abs(logits(model) - logits(a_graph())).max() < 0.03 * np.abs(logits(a_graph())).max()


def test_a_table_that_something_else_reads_too_stays_float():
    model = a_graph()
    model.graph.node.append(helper.make_node("ReduceSum", ["table"], ["sum"], "sum"))
    assert "table" in {tensor.name for tensor in int8_embeddings(model).graph.initializer}


def test_static_int8_answers_like_float_and_the_same_in_any_batch(tmp_path):
    model = static_int8(a_graph(), FEEDS, tmp_path)
    assert wrong_products(STATIC, loaded_operators(model, tmp_path), 2) == ""
    expected, found = logits(a_graph()), logits(model)
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    ids = np.random.default_rng(9).integers(0, V, (6, 9))
    alone = logits(model, [{"input_ids": row[None]} for row in ids])
    np.testing.assert_allclose(logits(model, [{"input_ids": ids}]), alone, atol=2e-6)  # what float32 sums leave


def test_static_weights_are_on_the_grid_that_was_chosen_for_them(tmp_path):
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in static_int8(a_graph(), FEEDS, tmp_path).graph.initializer}
    products = [stored[f"{name}_quantized"].astype(np.int64) for name in ("one", "two")]
    assert all(np.abs(weights).max() > 64 for weights in products)  # more than 7 bits
    assert all(np.abs(weights.reshape(-1, 2, weights.shape[1]).sum(axis=1)).max() <= PAIR_LIMIT for weights in products)


def test_weights_of_full_range_use_the_room_that_pairs_leave_and_lose_no_more(tmp_path):
    full = static_int8(a_graph(), FEEDS, tmp_path, NO_PAIR_LIMIT)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in full.graph.initializer}
    products = [stored[f"{name}_quantized"].astype(np.int64) for name in ("one", "two")]
    assert all(np.abs(weights).max(axis=0).min() >= 126 for weights in products)  # every column reaches the end of its range
    assert max(np.abs(weights.reshape(-1, 2, weights.shape[1]).sum(axis=1)).max() for weights in products) > PAIR_LIMIT


def test_texts_of_one_length_side_by_side_calibrate_as_they_do_alone(tmp_path):
    feeds = [{"input_ids": np.random.default_rng(i).integers(0, V, (1, 7))} for i in range(8)]
    beside = static_int8(a_graph(), [{"input_ids": np.concatenate([feed["input_ids"] for feed in feeds])}], tmp_path)
    np.testing.assert_allclose(logits(beside), logits(static_int8(a_graph(), feeds, tmp_path)), atol=1e-4)


def test_outlier_channels_cost_static_int8_less_when_smoothed(tmp_path, monkeypatch):
    smoothed = np.abs(logits(static_int8(a_graph(), FEEDS, tmp_path)) - logits(a_graph())).mean()
    monkeypatch.setattr("potstill.export.quantization.smoothing.EXPONENTS", ())
    plain = np.abs(logits(static_int8(a_graph(), FEEDS, tmp_path)) - logits(a_graph())).mean()
    assert smoothed < 0.7 * plain


@pytest.mark.parametrize(
    ("variant", "quantize"), [(STATIC, lambda model, scratch: static_int8(model, FEEDS, scratch)), (DYNAMIC, dynamic_int8)]
)
def test_a_weight_with_two_readers_stays_float(tmp_path, variant, quantize):
    assert [node.name for node in weight_products(a_graph(shared=True))] == ["second"]
    model = quantize(a_graph(shared=True), tmp_path)
    assert wrong_products(variant, loaded_operators(model, tmp_path), 1) == ""
    expected = logits(a_graph(shared=True))
    assert np.abs(logits(model) - expected).max() < 0.1 * np.abs(expected).max()


def test_dynamic_int8_answers_like_float(tmp_path):
    model = dynamic_int8(a_graph(), tmp_path)
    assert wrong_products(DYNAMIC, loaded_operators(model, tmp_path), 2) == ""
    expected = logits(a_graph())
    assert np.abs(logits(model) - expected).max() < 0.1 * np.abs(expected).max()


def test_a_graph_of_dequantized_weights_is_caught(tmp_path):
    model = a_graph()
    rng = np.random.default_rng(1)
    for name, shape in (("one", (H, N)), ("two", (N, H))):
        old = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        model.graph.initializer.remove(old)
        model.graph.initializer.append(numpy_helper.from_array(rng.integers(-64, 64, shape).astype(np.int8), f"{name}_int8"))
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0.01), f"{name}_scale"))
        model.graph.node.insert(
            0, helper.make_node("DequantizeLinear", [f"{name}_int8", f"{name}_scale"], [name], f"dequantize_{name}")
        )
    assert wrong_products(STATIC, loaded_operators(model, tmp_path), 2).startswith("0 of 2 products run in int8")
