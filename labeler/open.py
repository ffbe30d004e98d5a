"""Opening a teacher by its name or path, re-packed first where that makes it faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from labeler.llama_engine import LlamaEngine
from labeler.local_teacher import LocalConfig, LocalTeacher
from labeler.teacher import Identity
from models import gguf
from models.catalog import ModelFile, find_teacher
from models.places import cache_folder
from models.repack import repacked

Pack = Literal["auto", "as-is", "Q8_0", "Q4_0"]
PACKS: tuple[str, ...] = get_args(Pack)
SLOW_IN_BATCHES = frozenset({"Q4_1", "Q5_0", "Q5_1"})  # no faster for many tokens at once than for one: docs/log.md
MEASURE = LocalConfig()


@dataclass(frozen=True)
class PackedFile:
    """The file that a teacher runs on, and the one it was made of."""

    path: Path
    digest: str  # SHA-256
    source: ModelFile


def packed_file(name_or_path: str, pack: Pack = "auto") -> PackedFile:
    """The teacher of that name or path, re-packed if wanted.

    Args:
        pack: the type to re-pack its weights to; `auto` re-packs only types whose batched kernels are slow, to Q8_0.
    Raises:
        UserError: if there is no such teacher, or it cannot be re-packed.
        FormatError: if the file is not a whole GGUF.
    """
    model = find_teacher(name_or_path)
    kind = ("Q8_0" if gguf.read_header(model.path).file_type in SLOW_IN_BATCHES else None) if pack == "auto" else pack
    if kind == "Q8_0" or kind == "Q4_0":
        packed = repacked(model, kind)
        return PackedFile(packed.path, packed.sha256, model)
    return PackedFile(model.path, model.sha256, model)


def open_local(
    name_or_path: str,
    *,
    pack: Pack = "auto",
    config: LocalConfig = MEASURE,
    tell: Callable[[str], None] = lambda _: None,
    open_engine: Callable[[Path], LlamaEngine] = LlamaEngine,
) -> LocalTeacher:
    """The teacher of that name or path, loaded.

    Args:
        pack: see :func:`packed_file`.
        config: how much runs at once; without a cache folder the user's own is taken.
        tell: takes a line for a person when something takes a while.
        open_engine: loads the file; the benchmark brings an engine that keeps time.
    Raises:
        UserError: if there is no such teacher, or it cannot be loaded.
        FormatError: if the file is not a whole GGUF.
    """
    file = packed_file(name_or_path, pack)
    engine = open_engine(file.path)
    identity = Identity(file.source.name, file.digest, file.source.sha256, engine.build(), engine.chat_template)
    return LocalTeacher(engine, identity, replace(config, cache=config.cache or cache_folder() / "engine"), tell)
