"""Read the header of a GGUF file: to refuse a damaged file before llama.cpp maps it, and for its context, sizes, chat template and
special tokens.

A model may be in several files, `NAME-00001-of-00003.gguf` and so on, as llama.cpp's `gguf-split` writes them. It is opened by its
first piece, which has the header's fields; what is said of it here is said of all pieces together.

Source: the GGUF specification of ggml, versions 2 and 3 (little endian).
"""

from __future__ import annotations

import math
import re
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from potstill.contract.errors import FormatError
from potstill.contract.files import digest

MAGIC = b"GGUF"
VERSIONS = (2, 3)
FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 15: "Q4_K_M"}  # of llama_ftype
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_DEFAULT_ALIGNMENT = 32
_MAX_DIMS = 4  # GGML_MAX_DIMS
_MAX_NUMBERS = 1024  # of an array that is kept: one number a layer; longer ones are vocabularies
_EMBEDDING = "token_embd.weight"
_PIECE = re.compile(r"(?P<name>.+)-\d{5}-of-\d{5}\.gguf", re.DOTALL)
_N_NAMED = 3  # missing pieces that are named

_TOKENS = "tokenizer.ggml.tokens"
# Where a file does not say whether the opening token is added: vocabularies and pre-tokenizers for which llama.cpp does, and the
# tokens that it takes for begin and end in a SentencePiece vocabulary. Source: llama-vocab.cpp, llama_vocab::impl::load.
_ADDING = frozenset({"llama", "bert"})
_ADDING_PRE = frozenset(
    "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano tekken chameleon gemma4".split()
)
_SENTENCEPIECE_IDS = {"bos": 1, "eos": 2}

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
    n_bytes: int  # smallest size of a complete file, or of all pieces together
    file_type: str | None  # type of most tensors, such as "Q4_1"; None: not stated, or not in FILE_TYPES
    chat_template: str  # Jinja template; empty: the model has none
    weights_bytes: int = 0  # of all tensors
    n_vocab: int = 0  # rows of the token embedding; 0: the file has none
    # The model's sizes by their key below the architecture ("embedding_length"), as one number or as one for each layer.
    sizes: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)
    files: tuple[Path, ...] = ()  # of the model, in order; one where it is not in pieces
    piece: int = 0  # number of the file among them, from 0
    n_pieces: int = 1
    n_tensors_in_all: int = 0  # tensors that all pieces declare together; 0: not stated
    bos: str = ""  # spelling of the token that opens a text; empty: not stated
    eos: str = ""  # and of the one that ends it
    adds_bos: bool = False  # whether llama.cpp's tokenizer puts the opening token first


def read_header(path: Path) -> Header:
    """Read the header of a model.

    Args:
        path: its file, or the first of its pieces; the headers of the others are read, too.
    Raises:
        FormatError: if a file is missing, is not a GGUF of a known version, or is shorter than its header declares; if it is
            another piece than the first, or the pieces do not belong together.
    """
    first = _read_file(path)
    if first.n_pieces == 1 and first.piece == 0:
        return first
    files = _pieces(path, first)
    headers = [first, *(_read_file(file) for file in files[1:])]
    for number, (file, header) in enumerate(zip(files, headers, strict=True)):
        if (header.piece, header.n_pieces) != (number, len(files)):
            said = f"it says that it is piece {header.piece + 1} of {header.n_pieces}"
            raise FormatError(file, "", f"is not piece {number + 1} of {len(files)}: {said}; fetch it again")
    n_tensors = sum(header.n_tensors for header in headers)
    if first.n_tensors_in_all not in (0, n_tensors):
        problem = f"its {len(files)} pieces have {n_tensors} tensors together and should have {first.n_tensors_in_all}"
        raise FormatError(path, "", f"{problem}; fetch all of them again")
    return replace(
        first,
        n_tensors=n_tensors,
        n_bytes=sum(header.n_bytes for header in headers),
        weights_bytes=sum(header.weights_bytes for header in headers),
        n_vocab=max(header.n_vocab for header in headers),
        files=files,
    )


def sha256(path: Path) -> str:
    """SHA-256 of a model's bytes, of all pieces one after the other; raises as :func:`read_header` does."""
    return digest.of_files(read_header(path).files)


def _pieces(path: Path, first: Header) -> tuple[Path, ...]:
    """All pieces of the model; raises FormatError if this is not the first one, or one is missing."""
    n, found = first.n_pieces, _PIECE.fullmatch(path.name)
    name = found["name"] if found else "NAME"
    files = tuple(path.with_name(f"{name}-{number + 1:05}-of-{n:05}.gguf") for number in range(n))
    if first.piece != 0:
        problem = f"is piece {first.piece + 1} of {n}; a model in pieces opens from its first one"
        raise FormatError(path, "", f"{problem}: {files[0] if found else f'{name}-00001-of-{n:05}.gguf'}")
    if path != files[0]:
        problem = f"is the first of {n} pieces, and its name does not say where the others are"
        raise FormatError(path, "", f"{problem}; give all of them names like NAME-00001-of-{n:05}.gguf again")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        named = ", ".join(missing[:_N_NAMED]) + (f" and {len(missing) - _N_NAMED} more" if len(missing) > _N_NAMED else "")
        raise FormatError(path, "", f"is the first of {n} pieces; these are missing beside it: {named}; fetch them, too")
    return files


def _read_file(path: Path) -> Header:
    """The header of one file; raises FormatError if it is missing, unknown or too short."""
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
        self.at = 0  # bytes read; asking the file would be a call of the system for each of a vocabulary's strings

    def header(self) -> Header:
        """Read everything before the tensor data, and check it against the length of the file."""
        if self.file.read(len(MAGIC)) != MAGIC:
            raise FormatError(self.path, "", "is not a GGUF file: it does not start with 'GGUF'; name a .gguf file")
        self.at = len(MAGIC)
        version = self.number("<I")
        if version not in VERSIONS:
            raise FormatError(self.path, "", f"is GGUF version {version}; versions 2 and 3 are read; fetch a newer file")
        n_tensors, n_fields = self.number("<Q"), self.number("<Q")
        fields: dict[str, Any] = {}
        for _ in range(n_fields):
            key = self.string()
            fields[key] = self.value(self.number("<I"), keep=key == _TOKENS)
        tensors = [self.tensor() for _ in range(n_tensors)]
        start, n_data = self.data_start(fields, padded=n_tensors > 0), max((tensor.end for tensor in tensors), default=0)
        if start + n_data > self.size:
            raise self.short(start + n_data)
        architecture = str(fields.get("general.architecture", ""))
        n_ctx = fields.get(f"{architecture}.context_length")
        file_type = FILE_TYPES.get(fields.get("general.file_type", -1))
        template = fields.get("tokenizer.chat_template")
        return Header(
            architecture=architecture,
            n_ctx_train=n_ctx if isinstance(n_ctx, int) else None,
            n_tensors=n_tensors,
            n_bytes=start + n_data,
            file_type=file_type,
            chat_template=template if isinstance(template, str) else "",
            weights_bytes=n_data if all(tensor.known for tensor in tensors) else self.size - start,
            n_vocab=next((tensor.shape[1] for tensor in tensors if tensor.name == _EMBEDDING and len(tensor.shape) == 2), 0),
            sizes=_sizes(fields, architecture),
            files=(self.path,),
            piece=self.count(fields, "split.no", 0),
            n_pieces=self.count(fields, "split.count", 1) or 1,
            n_tensors_in_all=self.count(fields, "split.tensors.count", 0),
            bos=_spelling(fields, "bos"),
            eos=_spelling(fields, "eos"),
            adds_bos=_adds_bos(fields),
        )

    def data_start(self, fields: Mapping[str, Any], *, padded: bool) -> int:
        """Where the tensor data begins, in bytes, once the head is read; a file of a vocabulary alone is not padded."""
        alignment = fields.get("general.alignment") or _DEFAULT_ALIGNMENT
        if not isinstance(alignment, int) or alignment < 1:
            raise self.damaged(f"its alignment is {alignment!r}")
        return -(-self.at // alignment) * alignment if padded else self.at

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

    def value(self, kind: int, *, keep: bool = False) -> Any:
        """Read a value of the given type; an array of few numbers is a tuple, another one None unless it is to be kept."""
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
                return None
            found = (self.value(inner) for _ in range(count))
            if keep:
                return list(found)
            deque(found, maxlen=0)  # reads past them
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
        if self.at + n_bytes > self.size:
            raise self.short(self.at + n_bytes)
        self.at += n_bytes
        return self.file.read(n_bytes)

    def count(self, fields: Mapping[str, Any], key: str, default: int) -> int:
        """A number of pieces or tensors, at least 0."""
        found = fields.get(key, default)
        if not isinstance(found, int) or found < 0:
            raise self.damaged(f"its {key} is {found!r}")
        return found

    def damaged(self, what: str) -> FormatError:
        """The error of an impossible header."""
        return FormatError(self.path, "", f"is damaged: {what}; fetch it again")

    def short(self, n_bytes: int) -> FormatError:
        """The error of a truncated file."""
        problem = f"is truncated: it has {self.size} bytes, its header needs at least {n_bytes}; fetch it again"
        return FormatError(self.path, "", problem)


def _spelling(fields: Mapping[str, Any], end: str) -> str:
    """How the vocabulary spells its `bos` or `eos` token; empty if it has none."""
    tokens = fields.get(_TOKENS) or []
    default = _SENTENCEPIECE_IDS[end] if fields.get("tokenizer.ggml.model") == "llama" else None
    number = fields.get(f"tokenizer.ggml.{end}_token_id", default)
    return str(tokens[number]) if isinstance(number, int) and 0 <= number < len(tokens) else ""


def _adds_bos(fields: Mapping[str, Any]) -> bool:
    """Whether the tokenizer puts the opening token before a text."""
    stated = fields.get("tokenizer.ggml.add_bos_token")
    if isinstance(stated, bool):
        return stated
    return fields.get("tokenizer.ggml.model") in _ADDING or fields.get("tokenizer.ggml.pre") in _ADDING_PRE
