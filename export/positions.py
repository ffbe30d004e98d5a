"""Leaving out the vectors of places that no text reaches: a student reads `max_tokens`, its backbone knew many more places."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper


def without_unread_positions(model: onnx.ModelProto, max_tokens: int) -> onnx.ModelProto:
    """The graph with the rows of its position table that the first max_tokens places use; it reads no longer text.

    A table is one of positions where it is gathered by the beginning of constant ids, as in BERT's graphs; where positions
    are counted from the text, as in RoBERTa's, the table stays whole.

    Args:
        model: a float graph; it is left as it was.
        max_tokens: of a text, at least 1.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    constants = tensors | {node.output[0]: value.t for node in graph.node if node.op_type == "Constant" for value in node.attribute}
    readers = Counter(name for node in graph.node for name in node.input)
    slices = {node.output[0]: node for node in graph.node if node.op_type == "Slice"}
    for gather in graph.node:
        if gather.op_type != "Gather" or gather.input[0] not in tensors or gather.input[1] not in slices:
            continue
        name = slices[gather.input[1]].input[0]
        table, places = tensors[gather.input[0]], constants.get(name)
        if places is None or places.data_type != TensorProto.INT64 or readers[name] > 1 or readers[table.name] > 1:
            continue
        ids = numpy_helper.to_array(places)  # [1, places]
        if ids.ndim != 2 or len(ids) != 1 or ids.shape[1] <= max_tokens:
            continue
        kept = ids[:, :max_tokens]
        rows = np.ascontiguousarray(numpy_helper.to_array(table)[: int(kept.max()) + 1])
        places.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(kept), places.name))
        table.CopyFrom(numpy_helper.from_array(rows, table.name))
    return copy
