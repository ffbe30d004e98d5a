"""Each promise of a bundle's graph, broken in one way, on files that onnx's own protobuf classes wrote."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import a_graph

from potstill.contract.errors import FormatError
from potstill.contract.onnx_form import MAX_FILLED, check_graph


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


def external(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    tensor.ClearField("raw_data")


def external_by_its_entries_alone(model):
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


def external_inside_an_attribute(model):
    tensor = numpy_helper.from_array(np.ones(3, np.float32))
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def external_inside_a_branch(model):
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "hidden")
    tensor.external_data.add(key="location", value="/etc/passwd")
    branch = helper.make_graph([], "branch", [], [], [tensor])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


def ten_gigabytes(model):
    tensor = model.graph.initializer[0]
    del tensor.dims[:]
    tensor.dims.extend([10_000_000_000 // 4])


def ten_gigabytes_unraw(model):
    model.graph.initializer.add(name="huge", data_type=TensorProto.FLOAT, dims=[2_500_000_000], float_data=[0.0])


def a_negative_size(model):
    model.graph.initializer[0].dims[0] = -1


def an_unknown_type(model):
    model.graph.initializer[0].data_type = 99


def sparse(model):
    model.graph.sparse_initializer.add().dims.extend([10**10])


def sparse_constant(model):
    sparse_tensor = onnx.SparseTensorProto(dims=[10**10])
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse_tensor)
    model.graph.node.append(node)


def filled(operator, n):
    def change(model):
        model.graph.initializer.append(numpy_helper.from_array(np.array([n, 2]), "shape"))
        inputs = ["shape"] if operator == "ConstantOfShape" else ["dense", "shape"]
        model.graph.node.append(helper.make_node(operator, inputs, ["many"]))

    return change


def filled_by_a_constant(model):
    model.graph.node.append(helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([10**10]))))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["many"]))


def foreign(model):
    model.graph.node[0].domain = "evil.example"
    model.opset_import.append(helper.make_opsetid("evil.example", 1))


def a_function(model):
    model.functions.add(name="f", domain="")


def training(model):
    model.training_info.add()


def a_loop(model):
    model.graph.node.append(helper.make_node("Loop", ["n", "go"], ["x"], body=helper.make_graph([], "body", [], [])))


def deep(model):
    graph = helper.make_graph([], "leaf", [], [])
    for _ in range(12):
        node = helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=helper.make_graph([], "no", [], []))
        graph = helper.make_graph([node], "branch", [], [])
    model.graph.node.append(graph.node[0])


ELSEWHERE = "lie in another file; a bundle's graph holds all of its numbers itself"
SPARSE = "has sparse numbers, which grow when they are read; export the bundle again"
ATTACKS = [
    (external, f"numbers 'table': {ELSEWHERE}"),
    (external_by_its_entries_alone, f"numbers 'table': {ELSEWHERE}"),
    (external_inside_an_attribute, f"numbers 'c': {ELSEWHERE}"),
    (external_inside_a_branch, f"numbers 'hidden': {ELSEWHERE}"),
    (ten_gigabytes, "numbers 'table': are declared as [2500000000], 10000000000 bytes, but 1248 bytes are there"),
    (ten_gigabytes_unraw, "numbers 'huge': are declared as [2500000000], 2500000000 of them, but only 4 bytes are there"),
    (a_negative_size, "numbers 'table': are declared as [18446744073709551615, 8]; a size is never negative"),
    (an_unknown_type, "numbers 'table': are of the unknown type 99"),
    (sparse, SPARSE),
    (sparse_constant, SPARSE),
    (filled("ConstantOfShape", MAX_FILLED), f"operator ConstantOfShape: makes {2 * MAX_FILLED} numbers; at most {MAX_FILLED} are allowed"),
    (filled("Expand", 10**10), f"operator Expand: makes 20000000000 numbers; at most {MAX_FILLED} are allowed"),
    (filled_by_a_constant, f"operator ConstantOfShape: makes 10000000000 numbers; at most {MAX_FILLED} are allowed"),
    (foreign, "operator Gather: is of the foreign domain 'evil.example'; allowed: ai.onnx, com.microsoft"),
    (a_function, "defines operators of its own; a bundle's graph only answers, with the operators that onnxruntime has"),
    (training, "trains; a bundle's graph only answers, with the operators that onnxruntime has"),
    (a_loop, "operator Loop: loops; a bundle's graph runs through once"),
    (deep, "has graphs inside graphs, deeper than 8"),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "told"), ATTACKS, ids=lambda value: getattr(value, "__name__", None))
def test_a_graph_that_holds_more_than_a_classifier_needs_is_refused(tmp_path, attack, told):
    assert refusal(written(tmp_path, attack)) == told


def test_a_filled_tensor_of_a_usual_size_passes(tmp_path):
    check_graph(written(tmp_path, filled("ConstantOfShape", MAX_FILLED // 2)))


CUT = "is not an ONNX file, or cut short; copy the whole bundle again"


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
