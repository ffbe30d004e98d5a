"""What the operators create that make and arrange tensors: constants, filled and repeated tensors, parts, other shapes.

Shapes are those of the operators' definitions (github.com/onnx/onnx, docs/Operators.md).
Where a definition leaves the size to the data, it is the largest possible.
"""

from __future__ import annotations

import math
from itertools import product

from potstill.contract.security.tensor_shape import (
    MAX_VALUES,
    Node,
    Number,
    Rule,
    UnknownSizeError,
    Value,
    attribute_or_input,
    broadcast,
    ints,
    there,
)


def _shape(node: Node, given: list[Value | None]) -> Value:
    """The shape of the input, as numbers."""
    dims = list(there(given[0]).shape)[node.attributes.get("start", 0) : node.attributes.get("end")]
    return Value((len(dims),), list(dims))


def _constant(node: Node, given: list[Value | None]) -> Value:
    """A stored tensor or number."""
    found = next(iter(node.attributes.values()))
    if isinstance(found, Value):
        return found
    if isinstance(found, list):
        return Value((len(found),), found)
    return Value((), [found] if isinstance(found, int | float) else None)


def _filled(node: Node, given: list[Value | None]) -> Value:
    """A tensor of one number."""
    shape = tuple(ints(given[0]))
    fill = node.attributes.get("value")
    number = 0.0 if fill is None else fill.numbers[0] if fill.numbers else None
    return Value(shape, None if number is None or math.prod(shape) > MAX_VALUES else [number] * math.prod(shape))


def _expand(node: Node, given: list[Value | None]) -> Value:
    """Stretched to a shape."""
    first = there(given[0])
    shape = broadcast(first.shape, tuple(ints(given[1])))
    if first.numbers is not None and len(first.numbers) == 1 and math.prod(shape) <= MAX_VALUES:
        return Value(shape, first.numbers * math.prod(shape))
    return Value(shape, first.numbers if first.shape == shape else None)


def _tile(node: Node, given: list[Value | None]) -> Value:
    """Repeated along each axis."""
    return Value(tuple(dim * times for dim, times in zip(there(given[0]).shape, ints(given[1]), strict=True)))


def _range(node: Node, given: list[Value | None]) -> Value:
    """Numbers from a start to a limit."""
    numbers = [there(value).numbers for value in given]
    if not all(numbers):
        raise UnknownSizeError
    start, limit, step = (one[0] for one in numbers if one)
    n = max(0, math.ceil((limit - start) / step))
    return Value((n,), [start + at * step for at in range(n)] if n <= MAX_VALUES else None)


def _pad(node: Node, given: list[Value | None]) -> Value:
    """Padded at the start and the end of each axis."""
    shape = there(given[0]).shape
    pads = attribute_or_input(node, given, "pads", 1) or []
    axes = ints(given[3]) if len(given) > 3 and given[3] is not None else list(range(len(shape)))
    if len(pads) != 2 * len(axes):
        raise UnknownSizeError
    sizes = list(shape)
    for at, axis in enumerate(axes):
        sizes[axis] += pads[at] + pads[at + len(axes)]
    return Value(tuple(sizes))


def _reshape(node: Node, given: list[Value | None]) -> Value:
    """The same numbers in another shape; 0 keeps an axis, -1 takes what is left."""
    first = there(given[0])
    wanted = ints(given[1])
    sizes = [first.shape[at] if dim == 0 and not node.attributes.get("allowzero") else dim for at, dim in enumerate(wanted)]
    rest = math.prod(dim for dim in sizes if dim != -1)
    shape = tuple((first.size // rest if rest else 0) if dim == -1 else dim for dim in sizes)
    if sizes.count(-1) > 1 or math.prod(shape) > max(first.size, 1):
        raise UnknownSizeError
    return Value(shape, first.numbers)


def _squeeze(node: Node, given: list[Value | None]) -> Value:
    """Axes of length 1 left out."""
    first = there(given[0])
    axes = attribute_or_input(node, given, "axes", 1)
    gone = {axis % len(first.shape) for axis in axes} if axes is not None else {at for at, n in enumerate(first.shape) if n == 1}
    return Value(tuple(dim for at, dim in enumerate(first.shape) if at not in gone), first.numbers)


def _unsqueeze(node: Node, given: list[Value | None]) -> Value:
    """Axes of length 1 put in."""
    first = there(given[0])
    axes = attribute_or_input(node, given, "axes", 1) or []
    rank = len(first.shape) + len(axes)
    new, old = {axis % rank for axis in axes}, iter(first.shape)
    return Value(tuple(1 if at in new else next(old) for at in range(rank)), first.numbers)


def _flatten(node: Node, given: list[Value | None]) -> Value:
    """Two axes."""
    shape, axis = there(given[0]).shape, node.attributes.get("axis", 1)
    axis += len(shape) if axis < 0 else 0
    return Value((math.prod(shape[:axis]), math.prod(shape[axis:])))


def _transposed(node: Node, given: list[Value | None]) -> Value:
    """Axes in another order."""
    first = there(given[0])
    order = node.attributes.get("perm") or list(range(len(first.shape)))[::-1]
    shape = tuple(first.shape[axis] for axis in order)
    if first.numbers is None:
        return Value(shape)
    steps = [math.prod(first.shape[axis + 1 :]) for axis in order]
    return Value(shape, _picked(first.numbers, steps, [range(dim) for dim in shape]))


def _picked(numbers: list[Number], steps: list[int], parts: list[range]) -> list[Number]:
    """A part of a tensor's numbers, in row-major order. Args: steps, in `numbers`, from one entry of an axis to the next."""
    return [numbers[sum(step * at for step, at in zip(steps, place, strict=True))] for place in product(*parts)]


def _slice(node: Node, given: list[Value | None]) -> Value:
    """A part of each axis; an end that depends on the text counts as the whole axis."""
    first = there(given[0])
    values = [given[at] if len(given) > at else None for at in range(5)]
    if len(given) == 1 or any(value is not None and value.numbers is None for value in values[1:]):
        return Value(first.shape)
    starts, ends = ints(values[1]), ints(values[2])
    axes = ints(values[3]) if values[3] else list(range(len(starts)))
    steps = ints(values[4]) if values[4] else [1] * len(starts)
    parts = [range(dim) for dim in first.shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[axis] = parts[axis][slice(start, end if end > -(2**62) else None, step)]
    shape = tuple(len(part) for part in parts)
    if first.numbers is None:
        return Value(shape)
    return Value(shape, _picked(first.numbers, [math.prod(first.shape[axis + 1 :]) for axis in range(len(parts))], parts))


def _split(node: Node, given: list[Value | None]) -> list[Value]:
    """Parts of one axis."""
    first, n, axis = there(given[0]), len(node.outputs), node.attributes.get("axis", 0)
    axis += len(first.shape) if axis < 0 else 0
    sizes = attribute_or_input(node, given, "split", 1) or [-(-first.shape[axis] // n)] * n
    if len(sizes) != n:
        raise UnknownSizeError
    return [Value((*first.shape[:axis], size, *first.shape[axis + 1 :])) for size in sizes]


def _concat(node: Node, given: list[Value | None]) -> Value:
    """Tensors one after the other along an axis."""
    values = [there(value) for value in given]
    shape = list(values[0].shape)
    shape[node.attributes["axis"]] = sum(value.shape[node.attributes["axis"]] for value in values)
    known = len(shape) == 1 and shape[0] <= MAX_VALUES and all(value.numbers is not None for value in values)
    return Value(tuple(shape), [number for value in values for number in value.numbers or []] if known else None)


def _gather(node: Node, given: list[Value | None]) -> Value:
    """Entries of one axis by their places."""
    first, places = there(given[0]), there(given[1])
    axis = node.attributes.get("axis", 0)
    axis += len(first.shape) if axis < 0 else 0
    shape = (*first.shape[:axis], *places.shape, *first.shape[axis + 1 :])
    known = first.numbers is not None and places.numbers is not None and len(first.shape) == 1
    return Value(shape, [(first.numbers or [])[int(at)] for at in places.numbers or []] if known else None)


def _as_places(node: Node, given: list[Value | None]) -> Value:
    """As the second input."""
    return Value(there(given[1]).shape)


def _gather_nd(node: Node, given: list[Value | None]) -> Value:
    """Entries by several axes at once."""
    first, places, n = there(given[0]).shape, there(given[1]).shape, node.attributes.get("batch_dims", 0)
    return Value((*places[:-1], *first[n + places[-1] :]))


def _nonzero(node: Node, given: list[Value | None]) -> Value:
    """At most the places of every number."""
    first = there(given[0])
    return Value((max(1, len(first.shape)), first.size))


def _one_hot(node: Node, given: list[Value | None]) -> Value:
    """A new axis."""
    return Value((*there(given[0]).shape, *ints(given[1])))


RULES: dict[str, Rule] = {
    "Shape": _shape,
    "Size": lambda node, given: Value((), [there(given[0]).size]),
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Tile": _tile,
    "Range": _range,
    "Pad": _pad,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "Transpose": _transposed,
    "Slice": _slice,
    "Split": _split,
    "Concat": _concat,
    "Gather": _gather,
    "GatherElements": _as_places,
    "GatherND": _gather_nd,
    "NonZero": _nonzero,
    "OneHot": _one_hot,
}
