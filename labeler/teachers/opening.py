"""Open a teacher: a model on this machine by its name or path, re-packed where that is faster, or a server by its address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.system.machine import free_memory_bytes
from potstill.labeler.config import LocalConfig, Pack, ServerConfig
from potstill.labeler.engine.llama import LlamaEngine, LoadConfig
from potstill.labeler.teacher import Identity, Teacher
from potstill.labeler.teachers.local import LocalTeacher
from potstill.labeler.teachers.remote import open_remote
from potstill.models import gguf
from potstill.models.catalog import ModelFile, Packing, cache_folder, find_teacher
from potstill.models.devices import Placement, installed_llama, placement, share_in_ram
from potstill.models.memory import megabytes, memory_needed
from potstill.models.repack import repacked

SLOW_IN_BATCHES = frozenset({"Q4_1", "Q5_0", "Q5_1"})  # weight types that gain nothing from batching: docs/log.md
MEASURE = LocalConfig()
SMALLEST_CELLS = 1024  # of a context for one path with a few worked examples; with less room nothing is loaded


def is_server(name: str) -> bool:
    """Whether a teacher's name is the address of a server."""
    return name.startswith(("http://", "https://"))


def open_teacher(
    name: str,
    *,
    pack: Pack = "auto",
    config: LocalConfig = MEASURE,
    model: str | None = None,
    concurrency: int | None = None,
    api: str = "auto",
    tell: Callable[[str], None] = lambda _: None,
) -> Teacher:
    """Open the teacher with that name, path or address.

    Args:
        pack, config, tell: see :func:`open_local`; for a teacher in this process.
        model: id of the server's model; None if the server has only one.
        concurrency: HTTP requests in flight at once; None takes the default.
        api: how a server is asked, one of :data:`potstill.labeler.teacher.APIS`.
    Raises:
        UserError: if there is no such teacher, or a setting does not apply to it.
        FormatError: if the file is not a complete GGUF.
    """
    if is_server(name):
        if pack != "auto" or config != MEASURE:
            raise UserError(
                "pack, threads, parallel, GPU layers, KV type and deterministic apply to a teacher in this process only; "
                f"{name} is a server"
            )
        config_of_server = ServerConfig(concurrency=concurrency or ServerConfig.concurrency)
        return open_remote(name, model=model, config=config_of_server, api=api, tell=tell)
    if model is not None or concurrency is not None or api != "auto":
        raise UserError(f"model, api and concurrency apply to a server only; {name!r} runs in this process")
    return open_local(name, pack=pack, config=config, tell=tell)


@dataclass(frozen=True)
class PackedFile:
    """The file that a teacher runs on, and the file it was made from."""

    path: Path
    digest: str  # SHA-256
    source: ModelFile


def packed_file(name_or_path: str, pack: Pack = "auto") -> PackedFile:
    """Find the teacher with that name or path, and re-pack it if wanted.

    Args:
        pack: the type to re-pack its weights to; `auto` follows the catalog for a model listed there, and otherwise re-packs only
            types whose batched kernels are slow, to Q8_0.
    Raises:
        UserError: if there is no such teacher, or it cannot be re-packed.
        FormatError: if the file is not a complete GGUF.
    """
    model = find_teacher(name_or_path)
    kind = _advised(model) if pack == "auto" else pack
    if kind == "Q8_0" or kind == "Q4_0":
        packed = repacked(model, kind)
        return PackedFile(packed.path, packed.sha256, model)
    return PackedFile(model.path, model.sha256, model)


def _advised(model: ModelFile) -> Packing | None:
    """The type to re-pack a model to; None: leave it."""
    return model.pack or ("Q8_0" if gguf.read_header(model.path).file_type in SLOW_IN_BATCHES else None)


def open_local(
    name_or_path: str,
    *,
    pack: Pack = "auto",
    config: LocalConfig = MEASURE,
    tell: Callable[[str], None] = lambda _: None,
    open_engine: Callable[[Path, LoadConfig], LlamaEngine] = LlamaEngine,
) -> LocalTeacher:
    """Load the teacher with that name or path.

    Args:
        pack: see :func:`packed_file`.
        config: how much runs at once; without a cache folder, the user's own is used.
        tell: called with a message for the user before a slow step.
        open_engine: loads the file; the benchmark passes an engine that measures time.
    Raises:
        UserError: if there is no such teacher, it cannot be loaded or does not fit into memory, or layers are to be on a GPU and
            there is none.
        FormatError: if the file is not a complete GGUF.
    """
    file = packed_file(name_or_path, pack)
    header = gguf.read_header(file.path)
    placed = placement(config.n_gpu_layers, header, installed_llama(), config.kv_type)
    if placed.told:
        tell(placed.told)
    check_memory(file.source.name, header, config, placed)
    engine = open_engine(file.path, LoadConfig(placed.n_gpu_layers, placed.n_off_ram, config.kv_type))
    identity = Identity(
        name=file.source.name,
        digest=file.digest,
        source_digest=file.source.sha256,
        build=engine.build(),
        chat_template=engine.chat_template,
        bos=engine.bos,
        eos=engine.eos,
        adds_bos=engine.adds_bos,
        gpu_layers=placed.n_gpu_layers,
        kv_type=config.kv_type,
    )
    return LocalTeacher(engine, identity, replace(config, cache=config.cache or cache_folder() / "engine"), tell)


def check_memory(name: str, header: gguf.Header, config: LocalConfig, placed: Placement) -> None:
    """Refuse a model that the free memory cannot hold with even the smallest context; raises UserError with the numbers."""
    need = memory_needed(header, SMALLEST_CELLS, config.kv_type, n_sequences=1, n_batch=config.n_batch or SMALLEST_CELLS // 2)
    need, free = share_in_ram(need, placed.n_off_ram, header), free_memory_bytes()
    if need.total_bytes > free:
        raise UserError(
            f"{name}: does not fit into memory: it needs {megabytes(need.total_bytes)} ({need.as_text()}) for one path at a time, "
            f"and {megabytes(free)} are free; stop other programs, or take a smaller model or one with fewer bits a weight"
        )
