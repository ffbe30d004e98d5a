"""Decoding JSON and TOML into frozen structs, with errors that name the file and the field."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import msgspec
import msgspec.inspect

from potstill.contract.errors import FormatError

T = TypeVar("T")
# An escape of JSON: a whole surrogate pair, half of one (the group), or any other, so that no backslash is read twice.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)  # as msgspec says it
_NOT_LISTED = re.compile(r"Invalid enum value (.*)", re.DOTALL)
_STEP = re.compile(r"\.?([^.\[\]]+)|(\[[^\]]*\])")  # of a place: a field, or an entry (whose name is empty)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the structs of our formats: immutable, and an unknown key is an error rather than a silent typo."""


def read_bytes(path: Path) -> bytes:
    """Read a file; raises FormatError if it is missing, a folder, or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FormatError(path, "", "no such file; check the path") from None
    except IsADirectoryError:
        raise FormatError(path, "", "is a folder; name a file in it") from None
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror}") from error


def unzipped(path: Path) -> bytes:
    """Read a gzip file; raises FormatError as :func:`read_bytes`, and if it is cut off or no gzip file."""
    try:
        return gzip.decompress(read_bytes(path))
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(path, "", f"cannot be read as gzip: {error}") from error


def utf8(path: Path, data: bytes, first: int = 1) -> str:
    """Decode UTF-8 without a byte-order mark; raises FormatError with the line of the first invalid byte.

    Args:
        path: the file, for the error.
        data: some of its lines.
        first: number of the first of them.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + first
        found = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise FormatError(path, f"line {line}", f"{found}; save the file as UTF-8") from None


def encodable(text: str) -> str:
    """Replace each lone surrogate by a question mark, so that UTF-8, JSON and SQLite can store the text."""
    return text.encode("utf-8", "replace").decode("utf-8")


def toml(path: Path, kind: type[T]) -> T:
    """Read a TOML file as a ``kind``; raises FormatError with the line or field that is wrong."""
    import tomllib  # here, since answering with a bundle reads no TOML

    text = utf8(path, read_bytes(path))
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FormatError(path, "", f"not valid TOML: {error}") from None
    return convert(path, content, kind)


def json_lines(path: Path, data: bytes, first: int = 1) -> list[tuple[str, bytes]]:
    """(place, line) of every line that is not blank, without byte-order marks; arguments and errors as in :func:`utf8`."""
    utf8(path, data, first)
    lines = (line.removeprefix(b"\xef\xbb\xbf") for line in data.split(b"\n"))  # one in the middle: where a second file was added
    return [(f"line {number}", line) for number, line in enumerate(lines, first) if line.strip()]


def json(path: Path, data: bytes, kind: type[T], place: str = "", newest: int | None = None) -> T:
    r"""Decode JSON as a ``kind``; raises FormatError with the field that is wrong, after ``place`` (a line, for example).

    Half a surrogate pair (`\ud83d` alone), which programs write that cut a text in two, is read as U+FFFD.

    Args:
        newest: the highest `format` that this version reads. A higher one is told before any key that came with it.
    """
    if newest is not None:
        _refuse_newer(path, data, newest)
    decoder: Callable[[bytes], T] = partial(msgspec.json.decode, type=kind)
    try:
        return from_json(decoder, data)
    except msgspec.ValidationError as error:
        raise _located(path, place, error, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(path, place, f"not valid JSON: {error}") from None


class _Head(msgspec.Struct):
    """The one key that all versions of a format have; others may be there."""

    format: Any = None


def _refuse_newer(path: Path, data: bytes, newest: int) -> None:
    """Refuse a file of a later version; what is no such file is left to those who read it whole."""
    try:
        found = msgspec.json.decode(data, type=_Head).format
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if isinstance(found, int) and found > newest:
        known = " and ".join(map(str, range(1, newest + 1)))
        raise FormatError(path, "format", f"is {found}; this version reads {known}, a newer one wrote it: update potstill")


def from_json(decoder: Callable[[bytes], T], data: bytes) -> T:
    """Decode JSON, with U+FFFD for half a surrogate pair.

    Args:
        decoder: decodes what has none; msgspec's own.
        data: the JSON.
    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: if it is not JSON, or (ValidationError) not of the decoder's type.
    """
    try:
        return decoder(data)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        mended = _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], data)
        if mended == data:
            raise
        return decoder(mended)


def convert(path: Path, content: Any, kind: type[T], place: str = "") -> T:
    """Convert dicts and lists to a ``kind``; raises FormatError with the field that is wrong, after ``place``."""
    try:
        return msgspec.convert(content, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _located(path, place, error, kind) from None


def unknown_key(key: str, allowed: Collection[str]) -> str:
    """What is wrong with a key that is none of those allowed, and the closest of them if one is close."""
    import difflib  # only who reads an error waits for it

    close = difflib.get_close_matches(key, allowed, 1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown key {key!r}{meant}; allowed: {', '.join(allowed)}"


def _located(path: Path, place: str, error: msgspec.ValidationError, kind: Any) -> FormatError:
    """Turn msgspec's `problem - at `$.labels[2].name`` into `labels[2].name: problem`; says which keys or values are allowed."""
    problem, _, where = str(error).partition(" - at ")
    field = re.sub(r"^\$\.?", "", where.strip("`"))
    types = list(_types_at(kind, field))
    keys = [field.encode_name for one in types if isinstance(one, msgspec.inspect.StructType) for field in one.fields]
    values = [value for one in types if isinstance(one, msgspec.inspect.LiteralType) for value in one.values]
    if (found := _UNKNOWN.fullmatch(problem)) and keys:
        problem = unknown_key(found[1], keys)
    elif (found := _NOT_LISTED.fullmatch(problem)) and values:
        problem = f"is {found[1]}; allowed: {', '.join(map(str, values))}"
    return FormatError(path, ": ".join(part for part in (place, field) if part), problem[0].lower() + problem[1:])


def _types_at(kind: Any, field: str) -> Iterator[msgspec.inspect.Type]:
    """The types that a place may have, such as `labels[2].input`, by the type of the whole."""
    types = [msgspec.inspect.type_info(kind)]
    for name, _ in _STEP.findall(field):
        types = [below for above in types for below in _below(above, name)]
    for one in types:
        yield from _alternatives(one)


def _below(above: msgspec.inspect.Type, name: str) -> Iterator[msgspec.inspect.Type]:
    """The types of a field; without a name, those of an entry of a list or a mapping."""
    for one in _alternatives(above):
        if isinstance(one, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
            yield from (field.type for field in one.fields if field.encode_name == name)
        elif isinstance(one, msgspec.inspect.DictType):
            yield one.value_type
        elif isinstance(one, msgspec.inspect.CollectionType) and not name:
            yield one.item_type


def _alternatives(kind: msgspec.inspect.Type) -> Sequence[msgspec.inspect.Type]:
    """The types of a union, or the one that it is."""
    return kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
