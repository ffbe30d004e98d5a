"""Tensors of the Open Inference Protocol, as JSON and as bytes after the JSON (the binary tensor data extension).

A binary BYTES tensor has for each element its length, as 4 bytes little-endian, and then the element.
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
_NESTING = 8  # levels of lists in JSON data; more are refused


class Tensor(msgspec.Struct, frozen=True):
    """The JSON description of an input."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET


def read_texts(tensor: Tensor, binary: bytes | None) -> list[str]:
    """The strings of a BYTES tensor, [B] or [B, ...], in row-major order.

    Args:
        tensor: its description.
        binary: its bytes, if they follow the JSON.
    Raises:
        Refused: 400 if the tensor is not of strings, or its shape does not fit its elements.
    """
    if tensor.datatype != "BYTES":
        raise Refused(400, f"input {tensor.name!r} has datatype {tensor.datatype}; BYTES is expected")
    if any(size < 0 for size in tensor.shape):
        raise Refused(400, f"input {tensor.name!r} has shape {tensor.shape}; sizes must be at least 0")
    if binary is not None:
        texts = _split(tensor.name, binary)
    elif tensor.data is msgspec.UNSET:
        raise Refused(400, f"input {tensor.name!r} has neither data nor binary_data_size")
    else:
        texts = _flat(tensor.name, tensor.data, _NESTING)
    if prod(tensor.shape) != len(texts):
        raise Refused(400, f"input {tensor.name!r} has shape {tensor.shape} but {len(texts)} elements")
    return texts


def binary_size(tensor: Tensor) -> int | None:
    """Length in bytes of the data that follow the JSON, for a tensor [B] or [B, ...]; None if they are in the JSON.

    Raises:
        Refused: 400 if the size is invalid, or the tensor has data in the JSON too.
    """
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or tensor.data is not msgspec.UNSET:
        raise Refused(400, f"input {tensor.name!r} must have either data or a binary_data_size of at least 0")
    return size


def to_bytes(datatype: str, values: list[Any]) -> bytes:
    """Encode an output: strings as BYTES, numbers [B] or [B, C] as FP32, booleans as BOOL."""
    if datatype == "BYTES":
        encoded = [value.encode() for value in values]
        return b"".join(_LENGTH.pack(len(one)) + one for one in encoded)
    return np.asarray(values, dtype=_DTYPES[datatype]).tobytes()


def flat_numbers(values: list[Any]) -> list[Any]:
    """Flatten rows [B, C] to one list; a flat list is returned as it is."""
    return [number for row in values for number in row] if values and isinstance(values[0], list) else values


def _split(name: str, data: bytes) -> list[str]:
    """The elements of a binary BYTES tensor; raises Refused: 400."""
    texts, at = [], 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise Refused(400, f"input {name!r} ends inside the length of an element")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            raise Refused(400, f"input {name!r} has an element of {length} bytes, but only {len(data) - at} are left")
        texts.append(_utf8(name, data[at : at + length]))
        at += length
    return texts


def _flat(name: str, data: list[Any], depth: int) -> list[str]:
    """The strings of nested lists; raises Refused: 400."""
    texts: list[str] = []
    for value in data:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list) and depth:
            texts.extend(_flat(name, value, depth - 1))
        else:
            raise Refused(
                400,
                f"input {name!r} contains a value of type {type(value).__name__}; only strings and lists of strings are allowed",
            )
    return texts


def _utf8(name: str, data: bytes) -> str:
    """Decode UTF-8; raises Refused: 400."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refused(400, f"input {name!r} is not valid UTF-8: {error.reason} at offset {error.start}") from error
