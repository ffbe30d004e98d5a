"""What an operator of a graph creates: the shape of each result from the shapes of its inputs, without running it.

Only operators that this project's exports write have a rule.

Shapes are those of the operators' definitions (github.com/onnx/onnx, docs/Operators.md; github.com/microsoft/onnxruntime,
docs/ContribOperators.md).
Where a definition leaves the size to the data, it is the largest possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from potstill.contract.security import layout_operators
from potstill.contract.security.tensor_shape import (
    MAX_RANK,
    MAX_VALUES,
    Node,
    Number,
    Rule,
    UnknownSizeError,
    Value,
    attribute_or_input,
    broadcast,
    there,
)


def results(node: Node, known: dict[str, Value]) -> list[Value]:
    """What is known of a node's outputs.

    Args:
        node: its operator is in `RULES`.
        known: every tensor that it reads, by name.
    Raises:
        UnknownSizeError: if the size of an output cannot be told, or the node's arguments are malformed.
    """
    try:
        return _results(node, known)
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UnknownSizeError from error


def _results(node: Node, known: dict[str, Value]) -> list[Value]:
    """The values of a node's outputs; raises UnknownSizeError and the errors of malformed arguments."""
    given = [known[name] if name else None for name in node.inputs]
    if any(value is not None and len(value.shape) > MAX_RANK for value in given):
        raise UnknownSizeError
    found = RULES[node.operator](node, given)
    results = found if isinstance(found, list) else [found] * max(1, len(node.outputs))
    if any(dim < 0 for value in results for dim in value.shape):
        raise UnknownSizeError
    fixed = all(value.fixed for value in given if value is not None)
    return [
        Value(value.shape, value.numbers if value.numbers is not None and len(value.numbers) == value.size else None, fixed)
        for value in results
    ]


def _same(node: Node, given: list[Value | None]) -> Value:
    """As the first input."""
    first = there(given[0])
    return Value(first.shape, first.numbers if node.operator in ("Identity", "Dropout") else None)


def _cast(node: Node, given: list[Value | None]) -> Value:
    """As the first input; `to` 1, 10, 11 and 16 are floating point types."""
    first = there(given[0])
    keep = node.attributes.get("to") in (1, 10, 11, 16) or first.numbers is None
    return first if keep else Value(first.shape, [int(number) for number in first.numbers or []])


def _unary(change: Callable[[Number], Number]) -> Callable[[Node, list[Value | None]], Value]:
    """Number by number."""

    def rule(node: Node, given: list[Value | None]) -> Value:
        """As the first input."""
        first = there(given[0])
        return Value(first.shape, None if first.numbers is None else [change(number) for number in first.numbers])

    return rule


def _together(change: Callable[..., Number] | None = None) -> Callable[[Node, list[Value | None]], Value]:
    """Number by number of several inputs that are stretched to one shape."""

    def rule(node: Node, given: list[Value | None]) -> Value:
        """Stretched inputs."""
        values = [there(value) for value in given]
        shape = broadcast(*(value.shape for value in values))
        size = math.prod(shape)
        numbers = [value.numbers for value in values]
        if change is None or size > MAX_VALUES or any(one is None or len(one) not in (1, size) for one in numbers):
            return Value(shape)
        columns = [one * size if len(one) == 1 else one for one in numbers if one is not None]
        return Value(shape, [change(*row) for row in zip(*columns, strict=True)])

    return rule


def _divided(one: Number, other: Number) -> Number:
    """A quotient; of integers rounded towards zero."""
    return int(one / other) if isinstance(one, int) and isinstance(other, int) else one / other


def _multiplied(one: Number, other: Number) -> Number:
    """A product, unless the numbers are so large that they are no sizes."""
    if max(abs(one), abs(other)) > 2**63:
        raise UnknownSizeError
    return one * other


def _matmul(node: Node, given: list[Value | None]) -> Value:
    """A matrix product of the two inputs, of which a quantized one is the fourth."""
    one, other = there(given[0]).shape, there(given[3 if "QLinear" in node.operator else 1]).shape
    if len(one) >= 2 and node.attributes.get("transA"):
        one = (*one[:-2], one[-1], one[-2])
    if len(other) >= 2 and node.attributes.get("transB"):
        other = (*other[:-2], other[-1], other[-2])
    left, right = one[-2:-1], other[-1:] if len(other) > 1 else ()
    return Value((*broadcast(one[:-2], other[:-2]), *left, *right))


def _reduced(node: Node, given: list[Value | None]) -> Value:
    """Axes taken together."""
    first = there(given[0])
    axes = attribute_or_input(node, given, "axes", 1)
    if "axis" in node.attributes or node.operator.startswith("Arg"):
        axes = [node.attributes.get("axis", 0)]
    axes = list(range(len(first.shape))) if not axes and not node.attributes.get("noop_with_empty_axes") else axes or []
    gone = {axis % len(first.shape) for axis in axes} if first.shape else set()
    keep = node.attributes.get("keepdims", 1)
    shape = tuple(1 if at in gone else dim for at, dim in enumerate(first.shape) if keep or at not in gone)
    numbers = [math.prod(first.numbers)] if node.operator == "ReduceProd" and first.numbers is not None else None
    return Value(shape, numbers)


def _convolved(node: Node, given: list[Value | None]) -> Value:
    """A convolution or a pooling over the axes after the first two."""
    shape = there(given[0]).shape
    pooling = "Pool" in node.operator
    kernel = tuple(node.attributes["kernel_shape"]) if pooling else there(given[1]).shape[2:]
    n = len(kernel)
    strides, pads = node.attributes.get("strides") or [1] * n, node.attributes.get("pads") or [0] * 2 * n
    if len(shape) != n + 2 or min(strides) < 1 or len(pads) != 2 * n:
        raise UnknownSizeError
    sizes = [(shape[2 + at] + pads[at] + pads[at + n]) // strides[at] + 1 for at in range(n)]
    return Value((shape[0], shape[1] if pooling else there(given[1]).shape[0], *sizes))


def _einsum(node: Node, given: list[Value | None]) -> Value:
    """Sums of products over letters."""
    terms, _, result = node.attributes["equation"].decode().replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for letters, value in zip(terms.split(","), given, strict=True):
        for letter, dim in zip(letters, there(value).shape, strict=True):
            sizes[letter] = max(dim, sizes.get(letter, 0))
    if math.prod(sizes.values()) > 2**40 or not result:
        raise UnknownSizeError
    return Value(tuple(sizes[letter] for letter in result))


def _normalized(node: Node, given: list[Value | None]) -> Value:
    """As the first input, which a second one may be added to."""
    return Value(there(given[0]).shape)


def _where(node: Node, given: list[Value | None]) -> Value:
    """One or the other, number by number."""
    return _together(lambda condition, one, other: one if condition else other)(node, given)


RULES: dict[str, Rule] = {
    **layout_operators.RULES,
    **dict.fromkeys(("Add", "Sum"), _together(lambda *numbers: sum(numbers))),
    **dict.fromkeys(("And", "Or", "Xor", "BitShift", "PRelu", "Mean"), _together()),
    **dict.fromkeys(
        ("Identity", "Dropout", "Clip", "CumSum", "Trilu", "Elu", "Gelu", "LeakyRelu", "Softmax", "LogSoftmax", "HardSigmoid"),
        _same,
    ),
    **dict.fromkeys(("Cos", "Erf", "Exp", "Log", "Reciprocal", "Relu", "Sigmoid", "Sign", "Sin", "Softplus", "Tanh"), _same),
    **dict.fromkeys(
        ("IsNaN", "IsInf", "Round", "HardSwish", "Mish", "Selu", "Celu", "Acos", "Atan", "Softsign", "CastLike"), _same
    ),
    **dict.fromkeys(
        ("QuantizeLinear", "DequantizeLinear", "com.microsoft:QuantizeLinear", "com.microsoft:DequantizeLinear"), _same
    ),
    **dict.fromkeys(("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization", "BatchNormalization"), _normalized),
    **dict.fromkeys(("com.microsoft:SkipLayerNormalization", "com.microsoft:SkipSimplifiedLayerNormalization"), _normalized),
    **dict.fromkeys(("com.microsoft:BiasGelu", "com.microsoft:Gelu", "com.microsoft:FastGelu", "com.microsoft:QuickGelu"), _same),
    **dict.fromkeys(("com.microsoft:MultiHeadAttention",), _normalized),
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul", "Gemm", "com.microsoft:FusedMatMul"), _matmul),
    **dict.fromkeys(("com.microsoft:DynamicQuantizeMatMul", "com.microsoft:MatMulIntegerToFloat"), _matmul),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd"), _reduced),
    **dict.fromkeys(("ReduceSumSquare", "ReduceLogSumExp", "ArgMax", "ArgMin"), _reduced),
    **dict.fromkeys(("Conv", "ConvInteger", "AveragePool", "MaxPool"), _convolved),
    **dict.fromkeys(("ScatterND", "ScatterElements"), _normalized),
    "Sub": _together(lambda one, other: one - other),
    "Mul": _together(_multiplied),
    "Div": _together(_divided),
    "Mod": _together(lambda one, other: one % other),
    "Pow": _together(),
    "Max": _together(max),
    "Min": _together(min),
    "Equal": _together(lambda one, other: one == other),
    "Less": _together(lambda one, other: one < other),
    "LessOrEqual": _together(lambda one, other: one <= other),
    "Greater": _together(lambda one, other: one > other),
    "GreaterOrEqual": _together(lambda one, other: one >= other),
    "Abs": _unary(abs),
    "Neg": _unary(lambda number: -number),
    "Not": _unary(lambda number: not number),
    "Floor": _unary(math.floor),
    "Ceil": _unary(math.ceil),
    "Sqrt": _unary(math.sqrt),
    "Cast": _cast,
    "Where": _where,
    "Einsum": _einsum,
    "DynamicQuantizeLinear": lambda node, given: [Value(there(given[0]).shape), Value(()), Value(())],
}
