"""What an ONNX file may hold, checked on its bytes before any library builds a graph from them.

A bundle's sums say that nothing was changed since they were written, not who wrote them. So a graph is also held to what a
classifier needs: every number lies in the file itself, as many as are declared; operators are ONNX's own or onnxruntime's;
nothing loops. What a graph computes between its inputs and outputs is not judged: that is for a signature, and a memory limit.

The file is a protobuf message. Only its skeleton is walked here: the numbers are skipped, so it costs milliseconds.
Field numbers are those of onnx.proto (github.com/onnx/onnx, onnx/onnx.proto), named beside them.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

from potstill.contract.errors import FormatError

DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})  # ONNX's own operators under both of its names, and onnxruntime's
LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})  # no classifier needs one, and one can run for ever
FILLED = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}  # operators that make many numbers of few; the input that says how many
MAX_FILLED = 2**26  # numbers made of a shape that stands in the file; the largest table in use has fewer
MAX_DEPTH = 8  # graphs inside graphs
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16}  # by type
_BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}  # small floats, and integers of less than a byte
_SHAPE_NUMBERS = 16  # a tensor of at most this many integers may be a shape

Data = mmap.mmap | bytes
_Field = tuple[int, int, int]  # number of the field; where its bytes begin and end, or its value and -1


class _Cut(Exception):
    """The bytes are no protobuf message, or end inside one."""


def check_graph(path: Path) -> None:
    """Refuse an ONNX file that holds more than a classifier needs; raises FormatError naming the file and what it holds."""
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise FormatError(path, "", "is empty; copy the whole bundle again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _model(path, data)
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror}") from error
    except (_Cut, IndexError, UnicodeDecodeError):
        raise FormatError(path, "", "is not an ONNX file, or cut short; copy the whole bundle again") from None


def _model(path: Path, data: Data) -> None:
    """ModelProto: graph 7, training_info 20, functions 25. A domain that is only declared (opset_import 8) runs nothing."""
    graphs = []
    for number, start, end in _fields(data, 0, len(data)):
        if number == 7:
            graphs.append((start, end))
        elif number in (20, 25):
            what = "trains" if number == 20 else "defines operators of its own"
            raise FormatError(path, "", f"{what}; a bundle's graph only answers, with the operators that onnxruntime has")
    if len(graphs) != 1:
        raise FormatError(path, "", f"holds {len(graphs)} graphs; an ONNX file has one")
    _graph(path, data, *graphs[0], depth=0)


def _graph(path: Path, data: Data, start: int, end: int, depth: int) -> None:
    """GraphProto: node 1, initializer 5, sparse_initializer 15."""
    if depth > MAX_DEPTH:
        raise FormatError(path, "", f"has graphs inside graphs, deeper than {MAX_DEPTH}")
    nodes = []
    shapes: dict[str, int] = {}
    for number, first, last in _fields(data, start, end):
        if number == 1:
            nodes.append((first, last))
        elif number == 5:
            _tensor(path, data, first, last, shapes)
        elif number == 15:
            raise FormatError(path, "", "has sparse numbers, which grow when they are read; export the bundle again")
    for first, last in nodes:
        if last < 0:
            raise _Cut
        _node(path, data[first:last], shapes, depth)


def _node(path: Path, data: Data, shapes: dict[str, int], depth: int) -> None:
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
        raise FormatError(path, f"operator {operator}", f"is of the foreign domain {domain!r}; allowed: {allowed}")
    if operator in LOOPS:
        raise FormatError(path, f"operator {operator}", "loops; a bundle's graph runs through once")
    for start, end in attributes:
        _attribute(path, data, start, end, shapes, outputs, depth)
    if operator in FILLED and len(inputs) > FILLED[operator] and shapes.get(inputs[FILLED[operator]], 0) > MAX_FILLED:
        n_numbers = shapes[inputs[FILLED[operator]]]
        raise FormatError(path, f"operator {operator}", f"makes {n_numbers} numbers; at most {MAX_FILLED} are allowed")


def _attribute(path: Path, data: Data, start: int, end: int, shapes: dict[str, int], outputs: list[str], depth: int) -> None:
    """AttributeProto: t 5, g 6, tensors 10, graphs 11, sparse_tensor 22, sparse_tensors 23."""
    for number, first, last in _fields(data, start, end):
        if number in (5, 10):
            _tensor(path, data, first, last, shapes, outputs[0] if outputs else "")
        elif number in (6, 11):
            _graph(path, data, first, last, depth + 1)
        elif number in (22, 23):
            raise FormatError(path, "", "has sparse numbers, which grow when they are read; export the bundle again")


def _tensor(path: Path, data: Data, start: int, end: int, shapes: dict[str, int], name: str = "") -> None:
    """TensorProto: dims 1, data_type 2, int64_data 7, name 8, raw_data 9, external_data 13, data_location 14.

    The product of a small tensor of int64 is noted in `shapes` under its name, as it may be a shape.
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
            if number == 7 and n_other <= _SHAPE_NUMBERS * 10:
                values += [first] if last < 0 else _packed(data, first, last)
    if external:
        raise FormatError(path, f"numbers {name!r}", "lie in another file; a bundle's graph holds all of its numbers itself")
    n_numbers = math.prod(dims) if all(0 <= dim < 2**63 for dim in dims) else -1
    n_bytes = end - start if raw is None else raw[1] - raw[0]
    _check_size(path, name, dims, n_numbers, kind, None if raw is None else n_bytes, n_other)
    if kind == 7 and n_numbers <= _SHAPE_NUMBERS:
        if raw is not None:
            values = [int.from_bytes(data[at : at + 8], "little", signed=True) for at in range(raw[0], raw[1], 8)]
        shapes[name] = math.prod(value for value in values if value > 0)


def _check_size(path: Path, name: str, dims: list[int], n_numbers: int, kind: int, n_raw: int | None, n_other: int) -> None:
    """As many numbers as are declared are there: raw ones exactly, others with at least a byte for two of them."""
    place = f"numbers {name!r}"
    if n_numbers < 0:
        raise FormatError(path, place, f"are declared as {dims}; a size is never negative")
    if kind not in _BITS and kind != 8:  # 8: strings
        raise FormatError(path, place, f"are of the unknown type {kind}")
    if n_raw is not None and (n_raw * 8 < (needed := n_numbers * _BITS.get(kind, 8)) or n_raw * 8 - needed > 7):
        raise FormatError(path, place, f"are declared as {dims}, {(needed + 7) // 8} bytes, but {n_raw} bytes are there")
    if n_raw is None and n_numbers > 2 * n_other:
        raise FormatError(path, place, f"are declared as {dims}, {n_numbers} of them, but only {n_other} bytes are there")


def _fields(data: Data, at: int, end: int) -> Iterator[_Field]:
    """The fields of the message between two places; numbers of fixed width are passed over."""
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
    """A number of seven bits a byte, and where it ends."""
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
    """Numbers that stand one after the other without keys."""
    values = []
    while at < end:
        value, at = _varint(data, at)
        values.append(value)
    return values


def _text(data: Data, start: int, end: int) -> str:
    """A string's characters."""
    if end < 0:
        raise _Cut
    return data[start:end].decode()
