"""What is known of a graph's tensors and operators before anything runs: shapes, and the numbers of small constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_VALUES = 64  # elements of a tensor whose numbers are followed
MAX_RANK = 12  # axes of a tensor
Number = int | float
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """What is known of a tensor before anything runs."""

    shape: Shape
    numbers: list[Number] | None = None  # in row-major order, of a small constant
    fixed: bool = True  # does not depend on the text, so onnxruntime may compute it when it opens the graph

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Node:
    """One operator of a graph."""

    operator: str  # of onnxruntime's own: "com.microsoft:NAME"
    inputs: list[str]  # an empty name: left out
    outputs: list[str]
    attributes: dict[str, Any]  # numbers, lists of them, bytes, a `Value` or a `Graph`, by name


@dataclass(frozen=True)
class Graph:
    """The operators of a graph, in order, the tensors stored in it, and the names of its results."""

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Value] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)


class UnknownSizeError(Exception):
    """The size of a result cannot be told before the graph runs."""


def there(value: Value | None) -> Value:
    """An input that must be there."""
    if value is None:
        raise UnknownSizeError
    return value


def ints(value: Value | None) -> list[int]:
    """The numbers of a small constant, as a shape or as axes."""
    if value is None or value.numbers is None:
        raise UnknownSizeError
    return [int(number) for number in value.numbers]


def attribute_or_input(node: Node, given: list[Value | None], name: str, at: int) -> list[int] | None:
    """Axes or sizes, which older operators have as an attribute and newer ones as an input; None if they are left out."""
    if node.attributes.get(name) is not None:
        found = node.attributes[name]
        return list(found) if isinstance(found, list) else [int(found)]
    return ints(given[at]) if len(given) > at and given[at] is not None else None


def broadcast(*shapes: Shape) -> Shape:
    """The shape that shapes are stretched to together."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(0 if 0 in dims else max(dims) for dims in zip(*padded, strict=True))


Rule = Callable[[Node, list[Value | None]], Value | list[Value]]  # what an operator makes of its inputs
