"""Re-packing a GGUF to a type whose batched kernels are fast on a CPU: Q8_0 or Q4_0.

Some types, Q4_1 among them, are no faster for many tokens at once than for one; labelling many paths together then gains nothing.
Re-packing quantizes what is quantized already, so it can lose a little; the label run records both digests.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from potstill.contract.errors import MissingExtraError, UserError
from potstill.contract.files import digest
from potstill.models import gguf, places
from potstill.models.catalog import ModelFile, Packing

PACKINGS: tuple[str, ...] = get_args(Packing)


@dataclass(frozen=True)
class Repacked:
    """A re-packed GGUF and what it was made of."""

    path: Path
    sha256: str
    source_sha256: str


def repack(source: Path, target: Path, kind: Packing, *, threads: int | None = None) -> Repacked:
    """Write the GGUF re-packed to ``kind``, whole or not at all.

    Args:
        source: any GGUF that llama.cpp can quantize.
        target: the file to write; replaced if it is there.
        kind: type of the weights; the few tensors that llama.cpp keeps in another type (norms, output) stay so.
        threads: to quantize with; None takes every core.
    Raises:
        FormatError: if the source is not a whole GGUF.
        UserError: if llama.cpp refuses it or the disk is full.
    """
    gguf.read_header(source)
    if target.exists() and target.samefile(source):
        raise UserError(f"{target}: is the source itself; name another file")
    with _neighbour(target) as staging:
        _quantize(source, staging, kind, threads or os.cpu_count() or 1)
        gguf.read_header(staging)
        sha256 = digest.of_file(staging)
    return Repacked(target, sha256, digest.of_file(source))


def repacked(source: ModelFile, kind: Packing) -> Repacked:
    """The teacher re-packed to ``kind``, from the cache when this llama.cpp has made it before; raises as :func:`repack` does."""
    llama = _llama()
    folder = places.cache_folder() / "repacked" / f"{source.sha256[:16]}-{kind}-{llama.__version__}"
    target = folder / f"{kind}.gguf"
    known = places.recorded_sums(folder).get(target.name)
    if known and target.is_file() and digest.of_file(target) == known:
        return Repacked(target, known, source.sha256)
    made = repack(source.path, target, kind)
    (folder / places.SUMS_FILE).unlink(missing_ok=True)  # what it says of an earlier file no longer holds
    places.record_sums(folder, {target.name: made.sha256})
    return made


@contextmanager
def _neighbour(target: Path) -> Iterator[Path]:
    """A file name beside the target; it becomes the target when the block ends well, and vanishes when it does not."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            staging = Path(folder) / "repacked.gguf"
            yield staging
            staging.replace(target)
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error}); free some space or choose another place"
        raise UserError(f"{target}: {problem}") from error


def _quantize(source: Path, target: Path, kind: str, threads: int) -> None:
    """llama.cpp's own quantizer, silenced; its last words are the reason when it refuses."""
    llama = _llama()
    params = llama.llama_model_quantize_default_params()
    params.nthread = threads
    params.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{kind}")
    params.allow_requantize = True
    with _overheard(llama) as complaints:
        code = llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    if code != 0 or not target.is_file():
        reason = complaints[-1] if complaints else f"code {code}"
        raise UserError(f"{source}: llama.cpp cannot re-pack it to {kind} ({reason}); use it as it is, or fetch another file")


@contextmanager
def _overheard(llama: Any) -> Iterator[list[str]]:
    """Collect llama.cpp's warnings and errors instead of printing everything that it says."""
    lines: list[str] = []
    earlier, earlier_data = llama.llama_log_callback(), ctypes.c_void_p()
    llama.llama_log_get(ctypes.byref(earlier), ctypes.byref(earlier_data))

    @llama.llama_log_callback  # type: ignore[untyped-decorator]
    def hear(level: int, text: bytes, _: Any) -> None:
        if level in (2, 3) and (line := " ".join(text.decode("utf-8", "replace").split())):
            lines.append(line)

    llama.llama_log_set(hear, None)
    try:
        yield lines
    finally:
        llama.llama_log_set(earlier, earlier_data)


def _llama() -> Any:
    """llama-cpp-python; imported here because every other part of the models does without it."""
    try:
        import llama_cpp
    except ModuleNotFoundError:
        raise MissingExtraError("llama_cpp", "label") from None
    return llama_cpp
