"""Re-pack a GGUF to a type whose batched kernels are fast on a CPU: Q8_0 or Q4_0.

Some types, Q4_1 among them, decode a batch of tokens no faster than one by one, so labelling many paths together gains nothing.
Re-packing quantizes quantized weights again, which can lose a little; the label run records both digests.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from potstill.contract.errors import MissingExtraError, UserError
from potstill.contract.files import atomic, digest
from potstill.models import gguf
from potstill.models.catalog import SUMS_FILE, ModelFile, Packing, cache_folder, make_cache_folder, record_sums, recorded_sums

PACKINGS: tuple[str, ...] = get_args(Packing)


@dataclass(frozen=True)
class Repacked:
    """A re-packed GGUF, with the digest of its source."""

    path: Path
    sha256: str
    source_sha256: str


def repack(source: Path, target: Path, kind: Packing, *, threads: int | None = None) -> Repacked:
    """Re-pack a GGUF to another type; the target is written completely or not at all.

    Args:
        source: any GGUF that llama.cpp can quantize; of one in pieces, the first. The target is one file.
        target: the file to write; an existing one is replaced.
        kind: type of the weights; llama.cpp keeps a few tensors (norms, output) in other types.
        threads: CPU threads; None uses every core.
    Raises:
        FormatError: if the source is not a complete GGUF.
        UserError: if llama.cpp refuses it or the target cannot be written.
    """
    header = gguf.read_header(source)
    if target.exists() and any(target.samefile(piece) for piece in header.files):
        raise UserError(f"{target}: is the source itself; name another file")
    with _neighbour(target) as staging:
        _quantize(source, staging, kind, threads or os.cpu_count() or 1)
        gguf.read_header(staging)
        sha256 = digest.of_file(staging)
    return Repacked(target, sha256, digest.of_files(header.files))


def repacked(source: ModelFile, kind: Packing) -> Repacked:
    """The teacher re-packed to another type, from the cache if this llama.cpp has made it before.

    Raises:
        FormatError: if the source is not a complete GGUF.
        UserError: if llama.cpp refuses it, or there is no folder to keep it in.
    """
    llama = _llama()
    folder = cache_folder() / "repacked" / f"{source.sha256[:16]}-{kind}-{llama.__version__}"
    target = folder / f"{kind}.gguf"
    known = recorded_sums(folder).get(target.name)
    if known and target.is_file() and digest.of_file(target) == known:
        return Repacked(target, known, source.sha256)
    make_cache_folder(folder)
    made = repack(source.path, target, kind)
    (folder / SUMS_FILE).unlink(missing_ok=True)  # it may hold the sum of an earlier file
    record_sums(folder, {target.name: made.sha256})
    return made


@contextmanager
def _neighbour(target: Path) -> Iterator[Path]:
    """A temporary file beside the target; renamed to the target if the block succeeds, deleted if it does not."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic.scratch(f".{target.name}", target.parent) as folder:
            staging = folder / "repacked.gguf"
            yield staging
            staging.replace(target)
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error}); free some space or choose another place"
        raise UserError(f"{target}: {problem}") from error


def _quantize(source: Path, target: Path, kind: str, threads: int) -> None:
    """Run llama.cpp's quantizer silently; its last message is the reason if it refuses."""
    llama = _llama()
    params = llama.llama_model_quantize_default_params()
    params.nthread = threads
    params.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{kind}")
    params.allow_requantize = True
    with _captured_log(llama) as messages:
        code = llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    if code != 0 or not target.is_file():
        reason = messages[-1] if messages else f"code {code}"
        raise UserError(f"{source}: llama.cpp cannot re-pack it to {kind} ({reason}); use it as it is, or fetch another file")


@contextmanager
def _captured_log(llama: Any) -> Iterator[list[str]]:
    """Collect llama.cpp's warnings and errors, and print nothing of its log."""
    lines: list[str] = []
    earlier, earlier_data = llama.llama_log_callback(), ctypes.c_void_p()
    llama.llama_log_get(ctypes.byref(earlier), ctypes.byref(earlier_data))

    @llama.llama_log_callback  # type: ignore[untyped-decorator]
    def collect(level: int, text: bytes, _: Any) -> None:
        if level in (2, 3) and (line := " ".join(text.decode("utf-8", "replace").split())):
            lines.append(line)

    llama.llama_log_set(collect, None)
    try:
        yield lines
    finally:
        llama.llama_log_set(earlier, earlier_data)


def _llama() -> Any:
    """Import llama-cpp-python; only re-packing needs it."""
    try:
        import llama_cpp
    except ModuleNotFoundError:
        raise MissingExtraError("llama_cpp", "label") from None
    return llama_cpp
