"""What a graph may ask for: every known way to make gigabytes of a small file is refused before a library reads it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.attacks.graph import SIZE_ATTACKS
from support.tiny_bundle import a_graph

from potstill.contract.errors import FormatError
from potstill.contract.security.onnx_form import check_graph

pytestmark = pytest.mark.slow


def written(tmp_path, *nodes, change=None):
    model = onnx.load_model_from_string(a_graph())
    model.graph.node.extend(nodes)
    if change is not None:
        change(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(("attack", "told"), SIZE_ATTACKS, ids=range(len(SIZE_ATTACKS)))
def test_a_small_file_that_asks_for_gigabytes_is_refused_unless_it_is_trusted(tmp_path, attack, told):
    path = written(tmp_path, change=attack)
    with pytest.raises(FormatError) as caught:
        check_graph(path, max_tokens=64)
    assert str(caught.value) == f"{path}: {told}"
    check_graph(path)


def test_a_large_stored_tensor_may_be_computed_with(tmp_path):
    table = numpy_helper.from_array(np.zeros((2**26 + 1,), np.int8), "large")
    node = helper.make_node("Identity", ["large"], ["same"])
    check_graph(written(tmp_path, node, change=lambda model: model.graph.initializer.append(table)), max_tokens=64)


def squeeze(condition):
    """An `If` as exporters write it: `squeeze` where the axis has the length 1."""
    branches = {}
    for name, operator in (("then_branch", "Squeeze"), ("else_branch", "Identity")):
        output = helper.make_tensor_value_info(f"{name}_out", TensorProto.INT64, None)
        branches[name] = helper.make_graph([helper.make_node(operator, ["input_ids"], [f"{name}_out"])], name, [], [output])
    return [
        helper.make_node("Shape", ["input_ids"], ["dims"]),
        helper.make_node("Constant", [], ["place"], value_int=0),
        helper.make_node("Gather", ["dims", "place"], ["first"]),
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node("Equal", ["first", "one"] if condition == "known" else ["input_ids", "one"], ["equal"]),
        helper.make_node("If", ["equal"], ["squeezed"], **branches),
    ]


def test_a_branch_is_followed_where_it_is_known_which_is_taken(tmp_path):
    check_graph(written(tmp_path, *squeeze("known")), max_tokens=64)
    with pytest.raises(FormatError, match="operator If: has a result whose size cannot be told"):
        check_graph(written(tmp_path, *squeeze("unknown")), max_tokens=64)


def test_sizes_computed_from_the_text_are_followed(tmp_path):
    """The square of the length, as attention needs it: fine for a short text, too large for a very long one."""
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["dims"]),
        helper.make_node("Constant", [], ["places"], value_ints=[1, 1]),
        helper.make_node("Gather", ["dims", "places"], ["square"]),
        helper.make_node("ConstantOfShape", ["square"], ["filled"]),
    ]
    path = written(tmp_path, *nodes)
    check_graph(path, max_tokens=512)
    with pytest.raises(FormatError, match="operator ConstantOfShape: creates 400000000 elements"):
        check_graph(path, max_tokens=20_000)


def test_a_name_is_given_once(tmp_path):
    """Otherwise the sizes of one tensor would be taken for those of another."""
    table = numpy_helper.from_array(np.zeros((1, 1), np.int64), "input_ids")
    with pytest.raises(FormatError, match="tensor 'input_ids': is an input too"):
        check_graph(written(tmp_path, change=lambda model: model.graph.initializer.append(table)), max_tokens=64)
    twice = [helper.make_node("Identity", ["input_ids"], ["copy"]) for _ in range(2)]
    with pytest.raises(FormatError, match="operator Identity: gives a result a name that is taken"):
        check_graph(written(tmp_path, *twice), max_tokens=64)
