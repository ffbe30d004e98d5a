"""Each promise of a bundle's graph, broken in one way, on files that onnx's own protobuf classes wrote."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.attacks.graph import (
    ATTACKS,
    filled,
)
from support.tiny_bundle import a_graph

from potstill.contract.errors import FormatError
from potstill.contract.security.onnx_form import MAX_FILLED, check_graph

pytestmark = pytest.mark.slow


def refusal(path):
    with pytest.raises(FormatError) as caught:
        check_graph(path)
    assert caught.value.path == path
    return str(caught.value).removeprefix(f"{path}: ")


def written(tmp_path, change=lambda model: None):
    model = onnx.load_model_from_string(a_graph())
    change(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_graph_as_the_export_writes_it_passes(tmp_path):
    check_graph(written(tmp_path))


@pytest.mark.parametrize(
    "kind",
    [
        "FLOAT",
        "UINT8",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "BOOL",
        "FLOAT16",
        "DOUBLE",
        "UINT32",
        "UINT64",
        "BFLOAT16",
        "INT4",
        "UINT4",
    ],
)
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dims", [[], [0], [5], [3, 7]])
def test_numbers_of_every_type_pass_as_onnx_writes_them(tmp_path, kind, raw, dims):
    if raw and "INT4" in kind:
        pytest.skip("make_tensor does not pack raw halves of a byte")
    values = np.ones(dims).reshape(-1)
    data_type = getattr(TensorProto, kind)
    vals = values.astype(helper.tensor_dtype_to_np_dtype(data_type)).tobytes() if raw else values.tolist()
    tensor = helper.make_tensor("extra", data_type, dims, vals, raw=raw)
    check_graph(written(tmp_path, lambda model: model.graph.initializer.append(tensor)))


def test_strings_pass(tmp_path):
    tensor = helper.make_tensor("names", TensorProto.STRING, [2], [b"up", b"down"])
    check_graph(written(tmp_path, lambda model: model.graph.initializer.append(tensor)))


@pytest.mark.parametrize(("attack", "told"), ATTACKS, ids=lambda value: getattr(value, "__name__", None))
def test_a_graph_that_holds_more_than_a_classifier_needs_is_refused(tmp_path, attack, told):
    assert refusal(written(tmp_path, attack)) == told


def test_a_filled_tensor_of_a_usual_size_passes(tmp_path):
    check_graph(written(tmp_path, filled("ConstantOfShape", MAX_FILLED // 2)))


CUT = "is not an ONNX file, or is truncated; copy the whole bundle again"


def test_a_file_cut_at_any_byte_is_refused(tmp_path):
    data, path = a_graph(), tmp_path / "model.onnx"
    for n_bytes in range(1, len(data), 7):
        path.write_bytes(data[:n_bytes])
        assert refusal(path) in (CUT, "holds 0 graphs; an ONNX file has one")
    path.write_bytes(b"")
    assert refusal(path) == "is empty; copy the whole bundle again"


def test_random_bytes_are_refused_and_never_a_traceback(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "model.onnx"
    for _ in range(300):
        path.write_bytes(rng.bytes(int(rng.integers(1, 80))))
        refusal(path)


def test_one_changed_byte_passes_or_is_refused_in_one_line(tmp_path):
    rng, data, path = np.random.default_rng(0), a_graph(), tmp_path / "model.onnx"
    for _ in range(400):
        changed = bytearray(data)
        changed[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(changed)
        try:
            check_graph(path)
        except FormatError as error:
            assert "\n" not in str(error)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert refusal(tmp_path / "none.onnx") == "cannot be read: No such file or directory"
