"""Refuse a graph with operators that no export writes, or that asks for more memory or work than a classifier needs.

A small file can ask for gigabytes: a shape computed from two constants, the sum of a column and a row, the power of a matrix. So
the shapes of all results are computed first (`operator_shapes.py`), for one text of the longest length, before any library reads
the file. A graph whose sizes cannot be told is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from potstill.contract.errors import FormatError
from potstill.contract.security.operator_shapes import RULES, results
from potstill.contract.security.tensor_shape import Graph, Node, UnknownSizeError, Value

MAX_ELEMENTS = 2**26  # of one result; a tensor of the file may have more, and so may a result as large as it
MAX_TOTAL = 2**27  # of all results that do not depend on the text, beyond eight times the file's own tensors
MAX_PRODUCTS = 2**35  # multiplications for one text, beyond 64 per token and stored number
MAX_NODES = 50_000
INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
TRUST = "if you know who made the bundle, open it with --trust"


def check_operators(path: Path, graph: Graph) -> None:
    """Raise FormatError if a graph has an operator that no export writes, or branches."""
    if len(graph.nodes) > MAX_NODES:
        raise FormatError(path, "", f"has {len(graph.nodes)} operators; at most {MAX_NODES} are allowed")
    for node in graph.nodes:
        if node.operator not in RULES and node.operator != "If":
            raise FormatError(path, f"operator {node.operator}", f"is none that an export writes; {TRUST}")
        for value in node.attributes.values():
            if isinstance(value, Graph):
                check_operators(path, value)


def check_size(path: Path, graph: Graph, max_tokens: int) -> None:
    """Raise FormatError if an operator creates a tensor that is too large, or whose size cannot be told.

    Args:
        path: the file, for the message.
        graph: its operators are allowed (:func:`check_operators`).
        max_tokens: longest text, in tokens; sizes are those for one such text.
    """
    known = {name: Value((1, max_tokens), fixed=False) for name in INPUTS} | graph.tensors
    if taken := INPUTS & graph.tensors.keys():
        raise FormatError(path, f"tensor {min(taken)!r}", "is an input too; export the bundle again")
    sizes = [value.size for value in graph.tensors.values()]
    budget = _Budget(max([MAX_ELEMENTS, *sizes]), MAX_TOTAL + 8 * sum(sizes), MAX_PRODUCTS + 64 * max_tokens * sum(sizes))
    _walk(path, graph, known, budget)


@dataclass
class _Budget:
    """What a graph may still ask for."""

    largest: int  # elements of one result
    total: int  # elements of the results that do not depend on the text
    products: int  # multiplications


def _walk(path: Path, graph: Graph, known: dict[str, Value], budget: _Budget) -> None:
    """Add what is known of every result to `known`."""
    for node in graph.nodes:
        try:
            made = _branch(path, node, known, budget) if node.operator == "If" else results(node, known)
            if any(name in known for name in node.outputs if name):
                raise FormatError(path, f"operator {node.operator}", "gives a result a name that is taken; export the bundle again")
            known |= zip(node.outputs, made, strict=False)
            budget.products -= _products(node, known)
        except (UnknownSizeError, LookupError):
            raise FormatError(path, f"operator {node.operator}", f"has a result whose size cannot be told; {TRUST}") from None
        for value in made:
            if value.size > budget.largest:
                problem = f"creates {value.size} elements; at most {budget.largest} are allowed; {TRUST}"
                raise FormatError(path, f"operator {node.operator}", problem)
            budget.total -= value.size if value.fixed and node.operator != "Constant" else 0
        if budget.total < 0 or budget.products < 0:
            raise FormatError(path, f"operator {node.operator}", f"makes the graph too large to compute; {TRUST}")


def _branch(path: Path, node: Node, known: dict[str, Value], budget: _Budget) -> list[Value]:
    """The results of an `If`, which exporters write for `squeeze`: of the branch taken, or of both if they are of one shape."""
    condition = known[node.inputs[0]]
    names: tuple[str, ...] = ("then_branch", "else_branch")
    if condition.numbers is not None and len(condition.numbers) == 1:
        names = names[:1] if condition.numbers[0] else names[1:]
    found = []
    for name in names:
        graph = node.attributes[name]
        inside = known | graph.tensors
        _walk(path, graph, inside, budget)
        found.append([Value(inside[output].shape, fixed=inside[output].fixed) for output in graph.outputs])
    if any(values != found[0] for values in found):
        raise UnknownSizeError
    return found[0]


def _products(node: Node, known: dict[str, Value]) -> int:
    """Multiplications of a matrix product or a convolution; 0 for other operators."""
    name = node.operator.removeprefix("com.microsoft:")
    if "MatMul" in name or name in ("Gemm", "Conv", "ConvInteger", "Einsum"):
        first, second = known[node.inputs[0]], known[node.inputs[3 if name.startswith("QLinear") else 1]]
        inner = math.prod(second.shape[1:]) if name.startswith("Conv") else max([1, *first.shape[-2:], *second.shape[-2:-1]])
        return known[node.outputs[0]].size * inner
    if name in ("MultiHeadAttention", "Attention"):
        shape = known[node.inputs[0]].shape
        return 2 * shape[1] * math.prod(shape)
    return 0
