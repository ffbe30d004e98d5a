from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from support.tiny_bundle import a_graph

from potstill.contract.errors import FormatError
from potstill.serve.runtime.session import open_session, session_options


def test_a_session_keeps_to_its_threads_and_neither_spins_nor_slows_on_denormals():
    options = session_options(3)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert not options.enable_mem_pattern
    for name, value in (("intra_op.allow_spinning", "0"), ("inter_op.allow_spinning", "0"), ("set_denormal_as_zero", "1")):
        assert options.get_session_config_entry(f"session.{name}") == value


def written(tmp_path, change=lambda model: None):
    model = onnx.load_model_from_string(a_graph())
    change(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "model.onnx"


def test_a_session_of_one_thread_starts_none(tmp_path):
    import os

    path = written(tmp_path)
    before = len(os.listdir("/proc/self/task"))
    session = open_session(path, 1)
    ids = np.ones((1, 4), np.int64)
    session.run(None, {"input_ids": ids, "attention_mask": ids})
    assert len(os.listdir("/proc/self/task")) <= before  # fewer, where another test's thread has just ended


def other_input(model):
    model.graph.input[1].name = "attention"
    for node in model.graph.node:
        node.input[:] = ["attention" if name == "attention_mask" else name for name in node.input]


def other_output(model):
    model.graph.output[0].name = "scores"
    model.graph.node[-1].output[0] = "scores"


def broken_edge(model):
    model.graph.node[0].input[1] = "nowhere"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_input, "inputs: are input_ids, attention; allowed: input_ids, attention_mask, token_type_ids"),
        (other_output, "outputs: must begin with 'logits'; it is not a sequence classifier"),
        (broken_edge, f"onnxruntime {ort.__version__} cannot load it: "),
    ],
)
def test_a_graph_that_is_no_classifier_is_refused_by_name(tmp_path, change, told):
    path = written(tmp_path, change)
    with pytest.raises(FormatError) as caught:
        open_session(path)
    assert str(caught.value).startswith(f"{path}: {told}")
    assert "\n" not in str(caught.value)


def test_a_graph_is_held_to_its_form_before_onnxruntime_sees_it(tmp_path):
    path = written(tmp_path, lambda model: model.graph.initializer.add(name="x", data_type=TensorProto.FLOAT, dims=[10**10]))
    with pytest.raises(FormatError, match="declares the shape"):
        open_session(path)


def test_fewer_than_one_thread_is_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="threads is 0; it must be at least 1"):
        open_session(written(tmp_path), 0)


SMALL_NUMBERS = """
import sys
import numpy as np
import onnxruntime as ort
from potstill.serve.runtime.session import session_options
session = ort.InferenceSession(sys.stdin.buffer.read(), session_options(1), providers=["CPUExecutionProvider"])
print(session.run(None, {"attention_mask": np.full(9, 1e-20, np.float32)})[0].tolist())
"""


def test_denormals_are_zero_in_the_graph(repository):
    node = helper.make_node("Mul", ["attention_mask", "attention_mask"], ["logits"])
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "tiny", [value("attention_mask", TensorProto.FLOAT, ["T"])], [value("logits", TensorProto.FLOAT, ["T"])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    # In a process of its own: only the first session of a process says how its thread takes small numbers.
    command = [sys.executable, "-c", SMALL_NUMBERS]
    done = subprocess.run(command, input=model, cwd=repository, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == str([0.0] * 9)
