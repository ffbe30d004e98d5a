"""Changes to a graph that no bundle may have, each with the error that refuses it."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from potstill.contract.security.onnx_form import MAX_FILLED


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


ELSEWHERE = "is stored in another file; a bundle's graph must contain all of its tensors"
SPARSE = "has sparse tensors, which grow when they are loaded; export the bundle again"

ATTACKS = [
    (external, f"tensor 'table': {ELSEWHERE}"),
    (external_by_its_entries_alone, f"tensor 'table': {ELSEWHERE}"),
    (external_inside_an_attribute, f"tensor 'c': {ELSEWHERE}"),
    (external_inside_a_branch, f"tensor 'hidden': {ELSEWHERE}"),
    (ten_gigabytes, "tensor 'table': declares the shape [2500000000], 10000000000 bytes, but has 1248 bytes"),
    (ten_gigabytes_unraw, "tensor 'huge': declares the shape [2500000000], 2500000000 elements, but has only 4 bytes"),
    (a_negative_size, "tensor 'table': declares the shape [18446744073709551615, 8]; a size cannot be negative"),
    (an_unknown_type, "tensor 'table': has the unknown data type 99"),
    (sparse, SPARSE),
    (sparse_constant, SPARSE),
    (filled("ConstantOfShape", MAX_FILLED), f"operator ConstantOfShape: creates {2 * MAX_FILLED} elements; at most {MAX_FILLED} are allowed"),
    (filled("Expand", 10**10), f"operator Expand: creates 20000000000 elements; at most {MAX_FILLED} are allowed"),
    (filled_by_a_constant, f"operator ConstantOfShape: creates 10000000000 elements; at most {MAX_FILLED} are allowed"),
    (foreign, "operator Gather: has the unknown domain 'evil.example'; allowed: ai.onnx, com.microsoft"),
    (a_function, "defines its own operators; a bundle's graph may only classify, with the operators of onnxruntime"),
    (training, "contains training information; a bundle's graph may only classify, with the operators of onnxruntime"),
    (a_loop, "operator Loop: is a loop; a bundle's graph must not have any"),
    (deep, "has graphs nested deeper than 8"),
]  # fmt: skip


def _constant(name, **value):
    return helper.make_node("Constant", [], [name], **value)


def _many_from(*nodes):
    """A tensor of ten billion numbers, whose shape `shape` the nodes make."""

    def change(model):
        model.graph.node.extend([*nodes, helper.make_node("ConstantOfShape", ["shape"], ["many"])])

    return change


filled_by_listed_numbers = _many_from(_constant("shape", value_ints=[10**5, 10**5]))
filled_by_joined_numbers = _many_from(
    _constant("one", value_ints=[10**5]), helper.make_node("Concat", ["one", "one"], ["shape"], axis=0)
)
filled_by_cast_numbers = _many_from(
    _constant("narrow", value=numpy_helper.from_array(np.array([10**5, 10**5], np.int32))),
    helper.make_node("Cast", ["narrow"], ["shape"], to=TensorProto.INT64),
)
filled_along_seventeen_axes = _many_from(_constant("shape", value_ints=[4] * 17))


def a_range(model):
    numbers = [_constant(name, value_int=value) for name, value in (("start", 0), ("limit", 10**9), ("step", 1))]
    model.graph.node.extend([*numbers, helper.make_node("Range", ["start", "limit", "step"], ["many"])])


def random_numbers(model):
    model.graph.node.append(helper.make_node("RandomUniform", [], ["many"], shape=[10**5, 10**5]))


def padded(model):
    pads = _constant("pads", value_ints=[0, 0, 10**5, 10**5])
    model.graph.node.extend([pads, _constant("small", value=numpy_helper.from_array(np.ones((1, 1), np.float32)))])
    model.graph.node.append(helper.make_node("Pad", ["small", "pads"], ["many"]))


def a_column_and_a_row(model):
    for name, shape in (("a_column", (20_000, 1)), ("a_row", (1, 20_000))):
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    model.graph.node.append(helper.make_node("Add", ["a_column", "a_row"], ["many"]))


def powers_of_a_matrix(model):
    model.graph.node.append(_constant("shape", value_ints=[4096, 4096]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["power0"]))
    model.graph.node.extend(helper.make_node("MatMul", [f"power{at}"] * 2, [f"power{at + 1}"]) for at in range(3))


def a_size_that_the_text_decides(model):
    model.graph.node.append(helper.make_node("ReduceMax", ["input_ids"], ["top"], keepdims=0))
    model.graph.node.append(_constant("axis", value_ints=[0]))
    model.graph.node.append(helper.make_node("Unsqueeze", ["top", "axis"], ["shape"]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["many"]))


TRUST = "if you know who made the bundle, open it with --trust"
LIMIT = f"at most {MAX_FILLED} are allowed; {TRUST}"

SIZE_ATTACKS = [  # each fits its own form, and asks for too much when it is opened or run
    (filled_by_listed_numbers, f"operator ConstantOfShape: creates 10000000000 elements; {LIMIT}"),
    (filled_by_joined_numbers, f"operator ConstantOfShape: creates 10000000000 elements; {LIMIT}"),
    (filled_by_cast_numbers, f"operator ConstantOfShape: creates 10000000000 elements; {LIMIT}"),
    (filled_along_seventeen_axes, f"operator ConstantOfShape: creates 17179869184 elements; {LIMIT}"),
    (a_range, f"operator Range: creates 1000000000 elements; {LIMIT}"),
    (random_numbers, f"operator RandomUniform: is none that an export writes; {TRUST}"),
    (padded, f"operator Pad: creates 10000200001 elements; {LIMIT}"),
    (a_column_and_a_row, f"operator Add: creates 400000000 elements; {LIMIT}"),
    (powers_of_a_matrix, f"operator MatMul: makes the graph too large to compute; {TRUST}"),
    (a_size_that_the_text_decides, f"operator ConstantOfShape: has a result whose size cannot be told; {TRUST}"),
]
