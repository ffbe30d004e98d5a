"""Read the header of a GGUF file: to refuse a damaged file before llama.cpp maps it, and for its context, sizes and chat template.

Source: the GGUF specification of ggml, versions 2 and 3 (little endian).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from potstill.contract.errors import FormatError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 15: "Q4_K_M"}  # of llama_ftype
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_DEFAULT_ALIGNMENT = 32
_MAX_DIMS = 4  # GGML_MAX_DIMS
_MAX_NUMBERS = 1024  # of an array that is kept: one number a layer; longer ones are vocabularies
_EMBEDDING = "token_embd.weight"

# Bytes of a block of 1, 32 or 256 values by tensor type, from ggml's type table. An unknown type counts as 0 bytes, so that a new
# type does not make a complete file look truncated.
_PER_1 = {0: 4, 1: 2, 30: 2}
_PER_32 = {2: 18, 3: 20, 6: 22, 7: 24, 8: 34, 20: 18, 39: 17}
_PER_256 = {10: 84, 11: 110, 12: 144, 13: 176, 14: 210, 23: 136}
_BLOCKS = {kind: (n, size) for n, sizes in ((1, _PER_1), (32, _PER_32), (256, _PER_256)) for kind, size in sizes.items()}


@dataclass(frozen=True)
class Header:
    """The fields of a GGUF header that potstill reads."""

    architecture: str
    n_ctx_train: int | None  # context length in tokens that the model was trained with; None: not stated
    n_tensors: int
    n_bytes: int  # smallest size of a complete file
    file_type: str | None  # type of most tensors, such as "Q4_1"; None: not stated, or not in FILE_TYPES
    chat_template: str  # Jinja template; empty: the model has none
    weights_bytes: int = 0  # of all tensors
    n_vocab: int = 0  # rows of the token embedding; 0: the file has none
    # The model's sizes by their key below the architecture ("embedding_length"), as one number or as one for each layer.
    sizes: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """Read the header of a file.

    Raises:
        FormatError: if the file is missing, is not a GGUF of a known version, or is shorter than its header declares.
    """
    try:
        with path.open("rb") as file:
            return _Reader(path, file).header()
    except FileNotFoundError:
        raise FormatError(path, "", "no such file; check the path") from None
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class _Tensor:
    """A tensor's line in the header."""

    name: str
    shape: tuple[int, ...]  # in ggml's order of axes: the reverse of NumPy's
    end: int  # where it ends, in bytes from the start of the tensor data; where it begins, if its type is not known
    known: bool  # whether its type is in the table of block sizes


def _sizes(fields: Mapping[str, Any], architecture: str) -> dict[str, float | tuple[float, ...]]:
    """The numbers below the architecture's name."""
    head = f"{architecture}."
    found = {key.removeprefix(head): value for key, value in fields.items() if key.startswith(head)}
    return {key: value for key, value in found.items() if isinstance(value, int | float | tuple)}


class _Reader:
    """An open GGUF file, read from front to back."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file, self.size = path, file, path.stat().st_size

    def header(self) -> Header:
        """Read everything before the tensor data, and check it against the length of the file."""
        if self.file.read(len(MAGIC)) != MAGIC:
            raise FormatError(self.path, "", "is not a GGUF file: it does not start with 'GGUF'; name a .gguf file")
        version = self.number("<I")
        if version not in VERSIONS:
            raise FormatError(self.path, "", f"is GGUF version {version}; versions 2 and 3 are read; fetch a newer file")
        n_tensors, n_fields = self.number("<Q"), self.number("<Q")
        fields: dict[str, Any] = {}
        for _ in range(n_fields):
            key = self.string()
            fields[key] = self.value(self.number("<I"))
        tensors = [self.tensor() for _ in range(n_tensors)]
        n_data = max((tensor.end for tensor in tensors), default=0)
        alignment = fields.get("general.alignment") or _DEFAULT_ALIGNMENT
        if not isinstance(alignment, int) or alignment < 1:
            raise self.damaged(f"its alignment is {alignment!r}")
        start = -(-self.file.tell() // alignment) * alignment
        n_bytes = start + n_data
        if n_bytes > self.size:
            raise self.short(n_bytes)
        architecture = str(fields.get("general.architecture", ""))
        n_ctx = fields.get(f"{architecture}.context_length")
        file_type = FILE_TYPES.get(fields.get("general.file_type", -1))
        template = fields.get("tokenizer.chat_template")
        return Header(
            architecture=architecture,
            n_ctx_train=n_ctx if isinstance(n_ctx, int) else None,
            n_tensors=n_tensors,
            n_bytes=n_bytes,
            file_type=file_type,
            chat_template=template if isinstance(template, str) else "",
            weights_bytes=n_data if all(tensor.known for tensor in tensors) else self.size - start,
            n_vocab=next((tensor.shape[1] for tensor in tensors if tensor.name == _EMBEDDING and len(tensor.shape) == 2), 0),
            sizes=_sizes(fields, architecture),
        )

    def tensor(self) -> _Tensor:
        """Read a tensor's description."""
        name, n_dims = self.string(), self.number("<I")
        if n_dims > _MAX_DIMS:
            raise self.damaged(f"a tensor has {n_dims} dimensions; at most {_MAX_DIMS} are allowed")
        shape = tuple(self.number("<Q") for _ in range(n_dims))
        kind: int = self.number("<I")
        per_block, block_bytes = _BLOCKS.get(kind, (1, 0))
        end = self.number("<Q") + math.prod(shape) // per_block * block_bytes
        return _Tensor(name, shape, end, kind in _BLOCKS)

    def value(self, kind: int) -> Any:
        """Read a value of the given type; an array of few numbers is a tuple, any other one is skipped and gives None."""
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.number("<I"), self.number("<Q")
            if inner == _ARRAY:
                raise self.damaged("its header has an array of arrays")
            if inner in _SCALARS and count <= _MAX_NUMBERS:
                return tuple(self.number(_SCALARS[inner]) for _ in range(count))
            if inner in _SCALARS:
                self.take(struct.calcsize(_SCALARS[inner]) * count)
            else:
                for _ in range(count):
                    self.value(inner)
            return None
        if kind not in _SCALARS:
            raise self.damaged(f"its header has a value of unknown type {kind}")
        return self.number(_SCALARS[kind])

    def string(self) -> str:
        """Read a string: a length and that many bytes."""
        return self.take(self.number("<Q")).decode("utf-8", "replace")

    def number(self, layout: str) -> Any:
        """Read a number of the given struct layout."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def take(self, n_bytes: int) -> bytes:
        """Read bytes; checks the file's length first, so that a damaged length allocates nothing."""
        if self.file.tell() + n_bytes > self.size:
            raise self.short(self.file.tell() + n_bytes)
        return self.file.read(n_bytes)

    def damaged(self, what: str) -> FormatError:
        """The error of an impossible header."""
        return FormatError(self.path, "", f"is damaged: {what}; fetch it again")

    def short(self, n_bytes: int) -> FormatError:
        """The error of a truncated file."""
        problem = f"is truncated: it has {self.size} bytes, its header needs at least {n_bytes}; fetch it again"
        return FormatError(self.path, "", problem)
