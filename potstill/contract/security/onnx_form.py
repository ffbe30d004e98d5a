"""Check the content of an ONNX file on its bytes, before any library builds a graph from them.

A bundle's sums show that nothing has changed since they were written, not who wrote them. So a graph is also restricted to what a
classifier needs: every tensor is stored in the file itself with exactly its declared size; operators are those that an export
writes, and what each of them creates has a bound (`graph_size.py`). What the numbers mean is not checked: for that there are
signatures.

The file is a protobuf message. Only its structure is parsed here and tensor data is skipped, so it takes milliseconds.
Field numbers are those of onnx.proto (github.com/onnx/onnx, onnx/onnx.proto), named in the docstrings.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from potstill.contract.errors import FormatError
from potstill.contract.security.graph_size import MAX_ELEMENTS, check_operators, check_size
from potstill.contract.security.tensor_shape import MAX_VALUES, Graph, Node, Number, Value

DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})  # ONNX's own operators under both of its names, and onnxruntime's
LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})  # no classifier needs one, and a loop may never end
FILLED = {
    "ConstantOfShape": 0,
    "Expand": 1,
    "Tile": 1,
}  # operators that create large tensors from small ones: index of the shape input
MAX_FILLED = MAX_ELEMENTS  # elements created from a shape stored in the file
MAX_DEPTH = 8  # nested graphs
_BITS = {
    1: 32,
    2: 8,
    3: 8,
    4: 16,
    5: 16,
    6: 32,
    7: 64,
    9: 8,
    10: 16,
    11: 64,
    12: 32,
    13: 64,
    14: 64,
    15: 128,
    16: 16,
}  # bits per element, by data type
_BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}  # float8, and types of less than a byte
_MAX_SHAPE_SIZE = 16  # an int64 tensor of at most this many elements may be a shape
_FORMATS = {1: "f", 6: "i", 7: "q", 9: "?", 11: "d"}  # of the numbers that a size may be computed from, by data type

Data = mmap.mmap | bytes
_Field = tuple[int, int, int]  # field number; start and end of its bytes, or its value and -1


class _Cut(Exception):
    """The bytes are not a protobuf message, or end inside one."""


def check_graph(path: Path, data: bytes | None = None, max_tokens: int | None = None) -> None:
    """Raise FormatError if an ONNX file contains more than a classifier needs; the message names it.

    Args:
        path: the file.
        data: its bytes, if they were read; then the file is not.
        max_tokens: longest text, in tokens; None: the file is trusted, so operators and the sizes of what they create are free.
    """
    try:
        if data:
            _check(path, data, max_tokens)
            return
        with path.open("rb") as file:
            if data is not None or not path.stat().st_size:
                raise FormatError(path, "", "is empty; copy the whole bundle again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                _check(path, mapped, max_tokens)
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror}") from error
    except (_Cut, IndexError, UnicodeDecodeError, struct.error):
        raise FormatError(path, "", "is not an ONNX file, or is truncated; copy the whole bundle again") from None


def _check(path: Path, data: Data, max_tokens: int | None) -> None:
    """The checks on a file's bytes."""
    graph = _model(path, data)
    if max_tokens is not None:
        check_operators(path, graph)
        check_size(path, graph, max_tokens)


def _model(path: Path, data: Data) -> Graph:
    """ModelProto: graph 7, training_info 20, functions 25. Declaring a domain (opset_import 8) runs nothing."""
    graphs = []
    for number, start, end in _fields(data, 0, len(data)):
        if number == 7:
            graphs.append((start, end))
        elif number in (20, 25):
            what = "contains training information" if number == 20 else "defines its own operators"
            raise FormatError(path, "", f"{what}; a bundle's graph may only classify, with the operators of onnxruntime")
    if len(graphs) != 1:
        raise FormatError(path, "", f"has {len(graphs)} graphs; an ONNX file has one")
    return _graph(path, data, *graphs[0], depth=0)


def _graph(path: Path, data: Data, start: int, end: int, depth: int) -> Graph:
    """GraphProto: node 1, initializer 5, input 11, output 12, sparse_initializer 15."""
    if depth > MAX_DEPTH:
        raise FormatError(path, "", f"has graphs nested deeper than {MAX_DEPTH}")
    nodes = []
    shapes: dict[str, int] = {}
    graph = Graph()
    for number, first, last in _fields(data, start, end):
        if number == 1:
            nodes.append((first, last))
        elif number == 5:
            name, value = _tensor(path, data, first, last, shapes)
            graph.tensors[name] = value
        elif number == 12:
            graph.outputs.extend(_text(data, at, to) for field, at, to in _fields(data, first, last) if field == 1)
        elif number == 15:
            raise FormatError(path, "", "has sparse tensors, which grow when they are loaded; export the bundle again")
    for first, last in nodes:
        if last < 0:
            raise _Cut
        graph.nodes.append(_node(path, data[first:last], shapes, depth))
    return graph


def _node(path: Path, data: Data, shapes: dict[str, int], depth: int) -> Node:
    """NodeProto: input 1, output 2, name 3, op_type 4, attribute 5, domain 7."""
    inputs, outputs, attributes = [], [], []
    operator = domain = ""
    for number, start, end in _fields(data, 0, len(data)):
        if number == 1:
            inputs.append(_text(data, start, end))
        elif number == 2:
            outputs.append(_text(data, start, end))
        elif number == 4:
            operator = _text(data, start, end)
        elif number == 5:
            attributes.append((start, end))
        elif number == 7:
            domain = _text(data, start, end)
    if domain not in DOMAINS:
        allowed = ", ".join(sorted(filter(None, DOMAINS)))
        raise FormatError(path, f"operator {operator}", f"has the unknown domain {domain!r}; allowed: {allowed}")
    if operator in LOOPS:
        raise FormatError(path, f"operator {operator}", "is a loop; a bundle's graph must not have any")
    known = dict(_attribute(path, data, start, end, shapes, outputs, depth) for start, end in attributes)
    if operator in FILLED and len(inputs) > FILLED[operator] and shapes.get(inputs[FILLED[operator]], 0) > MAX_FILLED:
        n_elements = shapes[inputs[FILLED[operator]]]
        raise FormatError(path, f"operator {operator}", f"creates {n_elements} elements; at most {MAX_FILLED} are allowed")
    return Node(f"{domain}:{operator}" if domain == "com.microsoft" else operator, inputs, outputs, known)


def _attribute(
    path: Path, data: Data, start: int, end: int, shapes: dict[str, int], outputs: list[str], depth: int
) -> tuple[str, object]:
    """(name, value) of an attribute; None as the value if it has another type.

    AttributeProto: name 1, f 2, i 3, s 4, t 5, g 6, floats 7, ints 8, tensors 10, graphs 11, sparse_tensor 22, sparse_tensors 23.
    """
    name, found = "", None
    several: list[object] = []
    for number, first, last in _fields(data, start, end):
        if number == 1:
            name = _text(data, first, last)
        elif number == 2:
            found = struct.unpack("<f", data[first:last])[0]
        elif number == 3:
            found = _signed(first)
        elif number == 4:
            found = data[first:last]
        elif number == 7:
            several += struct.unpack(f"<{(last - first) // 4}f", data[first:last])
        elif number == 8:
            several += [_signed(first)] if last < 0 else map(_signed, _packed(data, first, last))
        elif number in (5, 10):
            found = _tensor(path, data, first, last, shapes, outputs[0] if outputs else "")[1]
        elif number in (6, 11):
            found = _graph(path, data, first, last, depth + 1)
        elif number in (22, 23):
            raise FormatError(path, "", "has sparse tensors, which grow when they are loaded; export the bundle again")
    return name, several or found


def _tensor(path: Path, data: Data, start: int, end: int, shapes: dict[str, int], name: str = "") -> tuple[str, Value]:
    """TensorProto: dims 1, data_type 2, int64_data 7, name 8, raw_data 9, external_data 13, data_location 14.

    The product of a small int64 tensor is stored in `shapes` under its name, since it may be a shape.
    """
    dims: list[int] = []
    kind, raw, n_other, external = 0, None, 0, False
    values: list[int] = []
    for number, first, last in _fields(data, start, end):
        if number == 1:
            dims += [first] if last < 0 else _packed(data, first, last)
        elif number == 2:
            kind = first
        elif number == 8:
            name = name or _text(data, first, last)
        elif number == 9:
            raw = (first, last)
        elif number == 13 or (number == 14 and first != 0):
            external = True
        elif number in (4, 5, 6, 7, 10, 11):  # float_data, int32_data, string_data, int64_data, double_data, uint64_data
            n_other += 1 if last < 0 else last - first
            if number == 7 and n_other <= _MAX_SHAPE_SIZE * 10:
                values += [first] if last < 0 else _packed(data, first, last)
    if external:
        raise FormatError(path, f"tensor {name!r}", "is stored in another file; a bundle's graph must contain all of its tensors")
    n_elements = math.prod(dims) if all(0 <= dim < 2**63 for dim in dims) else -1
    n_bytes = end - start if raw is None else raw[1] - raw[0]
    _check_size(path, name, dims, n_elements, kind, None if raw is None else n_bytes, n_other)
    if kind == 7 and n_elements <= _MAX_SHAPE_SIZE:
        if raw is not None:
            values = [int.from_bytes(data[at : at + 8], "little", signed=True) for at in range(raw[0], raw[1], 8)]
        shapes[name] = math.prod(value for value in values if value > 0)
    if kind not in _FORMATS or n_elements > MAX_VALUES:
        return name, Value(tuple(dims))
    return name, Value(tuple(dims), _numbers(data, start, end, kind, raw, n_elements))


def _numbers(data: Data, start: int, end: int, kind: int, raw: tuple[int, int] | None, n_elements: int) -> list[Number] | None:
    """The numbers of a small tensor; None if they are not as many. TensorProto: float_data 4, int32_data 5, int64_data 7."""
    if raw is not None:
        form = struct.Struct(f"<{n_elements}{_FORMATS[kind]}")
        return list(form.unpack(data[raw[0] : raw[0] + form.size]))
    found: list[Number] = []
    for number, first, last in _fields(data, start, end):
        if number == 4:
            found += struct.unpack(f"<{(last - first) // 4}f", data[first:last])
        elif number == 10:
            found += struct.unpack(f"<{(last - first) // 8}d", data[first:last])
        elif number in (5, 7):
            found += [_signed(first)] if last < 0 else map(_signed, _packed(data, first, last))
    return found if len(found) == n_elements else None


def _signed(value: int) -> int:
    """A varint as a number of 64 bits with a sign."""
    return value - 2**64 if value >= 2**63 else value


def _check_size(path: Path, name: str, dims: list[int], n_elements: int, kind: int, n_raw: int | None, n_other: int) -> None:
    """Check that a tensor has as many elements as it declares: raw data exactly, other data at least a byte for two elements."""
    place = f"tensor {name!r}"
    if n_elements < 0:
        raise FormatError(path, place, f"declares the shape {dims}; a size cannot be negative")
    if kind not in _BITS and kind != 8:  # 8: strings
        raise FormatError(path, place, f"has the unknown data type {kind}")
    if n_raw is not None and (n_raw * 8 < (needed := n_elements * _BITS.get(kind, 8)) or n_raw * 8 - needed > 7):
        raise FormatError(path, place, f"declares the shape {dims}, {(needed + 7) // 8} bytes, but has {n_raw} bytes")
    if n_raw is None and n_elements > 2 * n_other:
        raise FormatError(path, place, f"declares the shape {dims}, {n_elements} elements, but has only {n_other} bytes")


def _fields(data: Data, at: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message between two positions; values of fixed width are skipped."""
    while at < end:
        key = data[at]
        at += 1
        if key > 127:
            key, at = _varint(data, at - 1)
        wire = key & 7
        if wire == 2:
            n_bytes, at = _varint(data, at)
            if at + n_bytes > end:
                raise _Cut
            yield key >> 3, at, at + n_bytes
            at += n_bytes
        elif wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value, -1
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
            yield key >> 3, at - (8 if wire == 1 else 4), at
        else:
            raise _Cut
    if at != end:
        raise _Cut


def _varint(data: Data, at: int) -> tuple[int, int]:
    """(a base-128 varint, the position after it)."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise _Cut


def _packed(data: Data, at: int, end: int) -> list[int]:
    """The varints of a packed field."""
    values = []
    while at < end:
        value, at = _varint(data, at)
        values.append(value)
    return values


def _text(data: Data, start: int, end: int) -> str:
    """A field's bytes as text."""
    if end < 0:
        raise _Cut
    return data[start:end].decode()
