"""Tensors of the Open Inference Protocol, as JSON and as bytes behind the JSON (the binary tensor data extension).

A BYTES tensor in binary is, for each element, its length as 4 bytes, the lowest first, and then the element.
Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md; triton-inference-server/server,
docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import struct
from math import prod
from typing import Any

import msgspec
import numpy as np

from potstill.serve.http.asgi import Refused

_LENGTH = struct.Struct("<I")
_DTYPES = {"FP32": np.dtype("<f4"), "BOOL": np.dtype("?")}
_NESTING = 8  # of the data in JSON; more is no tensor of texts


class Tensor(msgspec.Struct, frozen=True):
    """An input as a request describes it."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET


def read_texts(tensor: Tensor, binary: bytes | None) -> list[str]:
    """The strings of a BYTES tensor, in row-major order; raises Refused: 400.

    Args:
        tensor: its description.
        binary: its bytes, if they came behind the JSON.
    """
    if tensor.datatype != "BYTES":
        raise Refused(400, f"input {tensor.name!r} has datatype {tensor.datatype}; BYTES is expected")
    if any(size < 0 for size in tensor.shape):
        raise Refused(400, f"input {tensor.name!r} has shape {tensor.shape}; no size may be below 0")
    if binary is not None:
        texts = _split(tensor.name, binary)
    elif tensor.data is msgspec.UNSET:
        raise Refused(400, f"input {tensor.name!r} has neither data nor binary_data_size")
    else:
        texts = _flat(tensor.name, tensor.data, _NESTING)
    if prod(tensor.shape) != len(texts):
        raise Refused(400, f"input {tensor.name!r} has shape {tensor.shape} and {len(texts)} elements")
    return texts


def binary_size(tensor: Tensor) -> int | None:
    """Bytes of a tensor that follows the JSON; None if it does not; raises Refused: 400."""
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or tensor.data is not msgspec.UNSET:
        raise Refused(400, f"input {tensor.name!r} must have either data or a binary_data_size of at least 0")
    return size


def to_bytes(datatype: str, values: list[Any]) -> bytes:
    """Values in binary: strings as BYTES, numbers (nested in rows or not) as FP32, truth values as BOOL."""
    if datatype == "BYTES":
        encoded = [value.encode() for value in values]
        return b"".join(_LENGTH.pack(len(one)) + one for one in encoded)
    return np.asarray(values, dtype=_DTYPES[datatype]).tobytes()


def flat_numbers(values: list[Any]) -> list[Any]:
    """Rows of numbers one after the other; what is flat stays so."""
    return [number for row in values for number in row] if values and isinstance(values[0], list) else values


def _split(name: str, data: bytes) -> list[str]:
    """The elements of a BYTES tensor in binary; raises Refused."""
    texts, at = [], 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise Refused(400, f"input {name!r} ends inside the length of an element")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            raise Refused(400, f"input {name!r} has an element of {length} bytes, and only {len(data) - at} are left")
        texts.append(_utf8(name, data[at : at + length]))
        at += length
    return texts


def _flat(name: str, data: list[Any], depth: int) -> list[str]:
    """Strings out of lists in lists; raises Refused."""
    texts: list[str] = []
    for value in data:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list) and depth:
            texts.extend(_flat(name, value, depth - 1))
        else:
            raise Refused(400, f"input {name!r} holds a {type(value).__name__}; strings are expected, in lists or not")
    return texts


def _utf8(name: str, data: bytes) -> str:
    """Text of bytes; raises Refused."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refused(400, f"input {name!r} holds bytes that are not UTF-8: {error.reason} at {error.start}") from error
