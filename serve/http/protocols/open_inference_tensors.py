"""Tensors of the Open Inference Protocol, as JSON and as bytes after the JSON (the binary tensor data extension).

A binary BYTES tensor has for each element its length, as 4 bytes little-endian, and then the element.
Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md; triton-inference-server/server,
docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import re
import struct
from math import prod
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from potstill.contract.files import decode
from potstill.serve.http.asgi import Refused

_LENGTH = struct.Struct("<I")
_DTYPES = {"FP32": np.dtype("<f4"), "BOOL": np.dtype("?")}
MAX_SIZES = 8  # of a shape, and levels of lists in JSON data; more are refused
MAX_LISTS = 10_000  # in JSON data
Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]  # bounded while it is decoded: a product of long numbers takes seconds
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


class TensorParameters(msgspec.Struct, frozen=True):
    """Parameters of an input. Unknown ones are ignored, and never built."""

    binary_data_size: Size | None = None


# Strings in lists of up to MAX_SIZES levels: whatever else the data has is refused as soon as it is met, and never built.
_List2 = list[str | list[str]]
_List3 = list[str | _List2]
_List4 = list[str | _List3]
_List5 = list[str | _List4]
_List6 = list[str | _List5]
_List7 = list[str | _List6]
_List8 = list[str | _List7]
_FLAT, _NESTED = msgspec.json.Decoder(list[str]), msgspec.json.Decoder(_List8)


class Tensor(msgspec.Struct, frozen=True):
    """The JSON description of an input."""

    name: str
    shape: list[Size]
    datatype: str
    parameters: TensorParameters | None = None
    data: msgspec.Raw | UnsetType = UNSET


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
    if len(tensor.shape) > MAX_SIZES:
        raise Refused(400, f"the shape of input {tensor.name!r} has {len(tensor.shape)} sizes; at most {MAX_SIZES} are allowed")
    if binary is not None:
        texts = _split(tensor.name, binary)
    elif isinstance(tensor.data, UnsetType):
        raise Refused(400, f"input {tensor.name!r} has neither data nor binary_data_size")
    else:
        texts = _strings(tensor.name, bytes(tensor.data))
    if prod(tensor.shape) != len(texts):
        raise Refused(400, f"input {tensor.name!r} has shape {tensor.shape} but {len(texts)} elements")
    return texts


def binary_size(tensor: Tensor) -> int | None:
    """Length in bytes of the data that follow the JSON, for a tensor [B] or [B, ...]; None if they are in the JSON.

    Raises:
        Refused: 400 if the size is invalid, or the tensor has data in the JSON too.
    """
    size = None if tensor.parameters is None else tensor.parameters.binary_data_size
    if size is not None and tensor.data is not UNSET:
        raise Refused(400, f"input {tensor.name!r} must have either data or a binary_data_size")
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


def _strings(name: str, data: bytes) -> list[str]:
    """The strings of JSON data, a list or nested lists; raises Refused: 400."""
    try:
        return decode.from_json(_FLAT.decode, data)
    except msgspec.ValidationError:
        pass  # nested, or not of strings
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # strings, which nobody has read before
        raise Refused(400, f"the data of input {name!r} is not valid JSON: {error}") from error
    if data.count(b"[") > MAX_LISTS and _STRING.sub(b"", data).count(b"[") > MAX_LISTS:
        raise Refused(400, f"input {name!r} has more than {MAX_LISTS} lists")
    try:
        return _flat(decode.from_json(_NESTED.decode, data))
    except msgspec.ValidationError as error:
        raise Refused(400, f"the data of input {name!r} may only be strings and lists of strings: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, f"the data of input {name!r} is not valid JSON: {error}") from error


def _flat(values: list[Any]) -> list[str]:
    """The strings of nested lists, in order."""
    texts: list[str] = []
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        else:
            texts.extend(_flat(value))
    return texts


def _utf8(name: str, data: bytes) -> str:
    """Decode UTF-8; raises Refused: 400."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refused(400, f"input {name!r} is not valid UTF-8: {error.reason} at offset {error.start}") from error
