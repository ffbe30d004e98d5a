"""onnxruntime-web, which computes in the page: read from its npm package, unpacked or not.

It is not part of potstill: 14 MB of WebAssembly that only this layout needs. The package is taken as it comes from npm.
"""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import decode

NAME = "onnxruntime-web"
KNOWN = "1.30.0"  # the version that the layout is tested with
VARIABLE = "POTSTILL_WEB_RUNTIME"
MODULE, WASM, PACKAGE = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm", "package.json"
MAX_BYTES = 2**26  # of a file of the package
HOW = f"get it with: npm pack {NAME}@{KNOWN}, and name the file that npm writes"
_HEAD = "package/"  # what every name in npm's archives begins with


@dataclass(frozen=True)
class Runtime:
    """The two files that a page needs, with their version and licence."""

    version: str
    module: str  # JavaScript, an ES module
    wasm: bytes
    licence: str


class _Package(msgspec.Struct, frozen=True):
    """The fields of `package.json` that matter here."""

    name: str
    version: str
    license: str = ""


def open_runtime(place: str | None) -> Runtime:
    """Read onnxruntime-web.

    Args:
        place: npm's archive (.tgz) or the unpacked package, such as node_modules/onnxruntime-web; None: what the variable
            POTSTILL_WEB_RUNTIME names.
    Raises:
        UserError: if no place is named, or there is nothing.
        FormatError: if it is another package, or damaged.
    """
    place = place or os.environ.get(VARIABLE)
    if not place:
        raise UserError(f"the layout web needs {NAME}, which is not part of potstill; {HOW} as --runtime, or in {VARIABLE}")
    path = Path(place)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; {HOW} as --runtime")
    found = _from_folder(path) if path.is_dir() else _from_archive(path)
    package = decode.json(path, found[PACKAGE], _Package)
    if package.name != NAME:
        raise FormatError(path, PACKAGE, f"is of {package.name!r}; it must be {NAME}: {HOW}")
    if not found[WASM].startswith(b"\0asm"):
        raise FormatError(path, WASM, f"is not WebAssembly; {HOW}")
    return Runtime(package.version, decode.utf8(path, found[MODULE]), found[WASM], LICENCE)


def _from_folder(folder: Path) -> dict[str, bytes]:
    """The three files of an unpacked package."""
    missing = [name for name in (PACKAGE, MODULE, WASM) if not (folder / name).is_file()]
    if missing:
        raise FormatError(folder / missing[0], "", f"no such file, so this is not the package {NAME}; {HOW}")
    return {name: decode.read_bytes(folder / name) for name in (PACKAGE, MODULE, WASM)}


def _from_archive(path: Path) -> dict[str, bytes]:
    """The three files of npm's archive; nothing is unpacked to disk."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.removeprefix(_HEAD)
                if name not in (PACKAGE, MODULE, WASM) or not member.isfile() or member.size > MAX_BYTES:
                    continue
                if (file := archive.extractfile(member)) is not None:
                    found[name] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise FormatError(path, "", f"is not an archive of npm: {error}; {HOW}") from error
    for name in (PACKAGE, MODULE, WASM):
        if name not in found:
            raise FormatError(path, name, f"is not in the archive, so it is not {NAME}; {HOW}")
    return found


# The package names its licence but brings no text of it. Source: github.com/microsoft/onnxruntime, LICENSE.
LICENCE = """\
onnxruntime-web (parts/runtime.js)

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
