"""Opening a teacher by its name or path, re-packed first where that makes it faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

from labeler.llama_engine import LlamaEngine
from labeler.local_teacher import LocalConfig, LocalTeacher
from labeler.teacher import Identity
from models import gguf
from models.catalog import find_teacher
from models.places import cache_folder
from models.repack import repacked

Pack = Literal["auto", "as-is", "Q8_0", "Q4_0"]
PACKS: tuple[str, ...] = get_args(Pack)
SLOW_IN_BATCHES = frozenset({"Q4_1", "Q5_0", "Q5_1"})  # no faster for many tokens at once than for one: docs/log.md


MEASURE = LocalConfig()


def open_local(
    name_or_path: str, *, pack: Pack = "auto", config: LocalConfig = MEASURE, tell: Callable[[str], None] = lambda _: None
) -> LocalTeacher:
    """The teacher of that name or path, loaded.

    Args:
        pack: the type to re-pack its weights to; `auto` re-packs only types whose batched kernels are slow, to Q8_0.
        config: how much runs at once; without a cache folder the user's own is taken.
        tell: takes a line for a person when something takes a while.
    Raises:
        UserError: if there is no such teacher, or it cannot be loaded.
        FormatError: if the file is not a whole GGUF.
    """
    model = find_teacher(name_or_path)
    kind = ("Q8_0" if gguf.read_header(model.path).file_type in SLOW_IN_BATCHES else None) if pack == "auto" else pack
    path, digest = model.path, model.sha256
    if kind == "Q8_0" or kind == "Q4_0":
        packed = repacked(model, kind)
        path, digest = packed.path, packed.sha256
    engine = LlamaEngine(path)
    identity = Identity(model.name, digest, model.sha256, engine.build(), engine.chat_template)
    return LocalTeacher(engine, identity, replace(config, cache=config.cache or cache_folder() / "engine"), tell)
