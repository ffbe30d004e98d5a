"""What the installed llama.cpp can compute on, how many layers of a model fit there, and how to install one that can do more."""

from __future__ import annotations

import ctypes
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from potstill.contract.errors import MissingExtraError, UserError
from potstill.models.gguf import Header
from potstill.models.memory import KvType, MemoryNeed, megabytes, memory_needed

GpuLayers = int | Literal["auto"]
AUTO_LAYERS = "auto"
TYPICAL_CELLS = 4096  # of a context for which `auto` leaves room beside the layers
RESERVE_BYTES = 512_000_000  # of a device's memory that `auto` leaves to the driver and to other programs
_CARD, _INTEGRATED = 1, 2  # of ggml_backend_dev_type: with memory of its own, and with the machine's
_NAMES = {"MTL": "Metal", "ROCm": "HIP"}  # ggml's name of a backend where people know it by another
_SWITCHES = {"CUDA": "GGML_CUDA", "HIP": "GGML_HIP", "Metal": "GGML_METAL", "Vulkan": "GGML_VULKAN"}  # of CMake, by backend
_TRACES = {"CUDA": ("/proc/driver/nvidia", "/dev/nvidia0"), "HIP": ("/dev/kfd",), "Vulkan": ("/dev/dri/renderD128",)}  # of drivers


@dataclass(frozen=True)
class Gpu:
    """A device that the installed llama.cpp can put layers on."""

    name: str  # llama.cpp's: "CUDA0"
    description: str  # the maker's: "NVIDIA GeForce RTX 3060"
    free_bytes: int
    total_bytes: int
    shares_ram: bool = False  # whether its memory is the machine's own


@dataclass(frozen=True)
class LlamaBuild:
    """The installed llama.cpp."""

    version: str  # of llama-cpp-python, which fixes the version of llama.cpp
    backends: tuple[str, ...]  # beside the CPU's: "CUDA", "Metal", "Vulkan", ...; empty: none
    gpus: tuple[Gpu, ...]
    cpu_features: tuple[str, ...]  # instruction sets that it was compiled for, in capitals: "AVX2"

    @property
    def gpu_backends(self) -> tuple[str, ...]:
        """The backends that compute on a GPU, found here or not."""
        return tuple(name for name in self.backends if name in _SWITCHES)


@dataclass(frozen=True)
class Placement:
    """How many layers go to the GPU, and a line that says so; the line is empty where there is no GPU to speak of."""

    n_gpu_layers: int = 0
    n_off_ram: int = 0  # of these, layers that take none of the machine's own memory
    told: str = ""


def installed_llama() -> LlamaBuild:
    """The installed llama.cpp with its devices; raises MissingExtraError if there is none."""
    try:
        import llama_cpp
        from llama_cpp._ggml import libggml
    except ModuleNotFoundError:
        raise MissingExtraError("llama_cpp", "label") from None
    said = llama_cpp.llama_print_system_info().decode("utf-8", "replace")
    pairs = [part.rpartition(":")[2].split(" = ") for part in said.split("|")]
    features = tuple(pair[0].strip() for pair in pairs if len(pair) == 2 and pair[1].strip() == "1")
    backends, gpus = _backends(libggml), _gpus(libggml)
    return LlamaBuild(llama_cpp.__version__, tuple(name for name in backends if name != "CPU"), gpus, features)


def placement(
    wish: GpuLayers, header: Header, build: LlamaBuild, kv_type: KvType = "f16", n_cells: int = TYPICAL_CELLS
) -> Placement:
    """Decide how many layers of a model go to the GPU.

    Args:
        wish: a number of layers, from 0 on; more than the model has means all; `auto`: all that fit, none without a GPU.
        header: of the model's file.
        build: the installed llama.cpp.
        kv_type, n_cells: of the context that must fit beside the layers.
    Raises:
        UserError: if layers are wished for and this llama.cpp has no GPU to put them on; it names the command that helps.
    """
    all_layers = n_layers(header)
    if isinstance(wish, int):
        if wish > 0 and not build.gpus:
            raise UserError(_refusal(wish, build))
        return _placed(min(wish, all_layers), all_layers, build) if wish else Placement()
    if not build.gpus:
        return Placement()
    need = memory_needed(header, n_cells, kv_type)
    free = sum(max(gpu.free_bytes - RESERVE_BYTES, 0) for gpu in build.gpus)
    n = min(all_layers, int(max(free - need.compute_bytes, 0) / ((need.weights_bytes + need.cache_bytes) / all_layers)))
    return _placed(n, all_layers, build, "" if n == all_layers else f": all of them need {megabytes(need.total_bytes)}")


def n_layers(header: Header) -> int:
    """Number of layers that can be put on a GPU: the model's, and its output layer."""
    found = header.sizes.get("block_count")
    return int(found) + 1 if isinstance(found, int | float) else 1


def share_in_ram(need: MemoryNeed, n_off_ram: int, header: Header) -> MemoryNeed:
    """What is left of a need for the machine's own memory when that many layers are on a GPU with memory of its own."""
    left = 1 - min(n_off_ram / n_layers(header), 1)
    return MemoryNeed(int(need.weights_bytes * left), int(need.cache_bytes * left), need.compute_bytes)


def install_command(backend: str, version: str) -> str:
    """The command that compiles llama-cpp-python of that version with a GPU backend: "CUDA", "HIP", "Metal" or "Vulkan"."""
    options = "--force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python"
    return f'CMAKE_ARGS="-D{_SWITCHES[backend]}=on" pip install {options} llama-cpp-python=={version}'


def fitting_backend(platform: str = sys.platform, root: Path = Path("/")) -> str | None:
    """The GPU backend that suits this machine, by the traces of its drivers; None where there are none.

    Args:
        platform: as `sys.platform` says it.
        root: where the file system's root is.
    """
    if platform == "darwin":
        return "Metal"
    for backend, places in _TRACES.items():
        if any((root / place.lstrip("/")).exists() for place in places):
            return backend
    return "CUDA" if root == Path("/") and shutil.which("nvidia-smi") else None


def _refusal(wish: int, build: LlamaBuild) -> str:
    """Why layers cannot go to a GPU, and what to do."""
    asked = f"--gpu-layers {wish}"
    if build.gpu_backends:
        found = f"{asked}: the installed llama.cpp ({build.version}) has {', '.join(build.gpu_backends)} but finds no device"
        return f"{found}; check the driver, or leave out --gpu-layers"
    found = f"{asked}: the installed llama.cpp ({build.version}) computes on the CPU only"
    command = install_command(fitting_backend() or "CUDA", build.version)
    return f"{found}; leave out --gpu-layers, or install one that has a GPU: {command} (potstill doctor shows more)"


def _placed(n: int, all_layers: int, build: LlamaBuild, why: str = "") -> Placement:
    """That many layers on the GPU, and the line about it."""
    where = " and ".join(f"{gpu.name} ({gpu.description}, {megabytes(gpu.free_bytes)} free)" for gpu in build.gpus)
    rest = "" if n == all_layers else ", the others on the CPU"
    n_off_ram = 0 if any(gpu.shares_ram for gpu in build.gpus) else n
    return Placement(n, n_off_ram, f"{n} of {all_layers} layers are on {where}{rest}{why}")


def _backends(ggml: Any) -> list[str]:
    """Names of all registered backends."""
    named = _function(ggml, "ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    get = _function(ggml, "ggml_backend_reg_get", ctypes.c_void_p, ctypes.c_size_t)
    names = [named(get(i)).decode() for i in range(_function(ggml, "ggml_backend_reg_count", ctypes.c_size_t)())]
    return [_NAMES.get(name, name) for name in names]


def _gpus(ggml: Any) -> tuple[Gpu, ...]:
    """All devices that are GPUs."""
    get = _function(ggml, "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    kind = _function(ggml, "ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    texts = [_function(ggml, f"ggml_backend_dev_{name}", ctypes.c_char_p, ctypes.c_void_p) for name in ("name", "description")]
    size_p = ctypes.POINTER(ctypes.c_size_t)
    memory = _function(ggml, "ggml_backend_dev_memory", None, ctypes.c_void_p, size_p, size_p)
    found = []
    for i in range(_function(ggml, "ggml_backend_dev_count", ctypes.c_size_t)()):
        device = get(i)
        if kind(device) in (_CARD, _INTEGRATED):
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            memory(device, ctypes.byref(free), ctypes.byref(total))
            name, description = (text(device).decode("utf-8", "replace") for text in texts)
            shares_ram = kind(device) == _INTEGRATED or sys.platform == "darwin"  # Metal calls every GPU a card
            found.append(Gpu(name, description, free.value, total.value, shares_ram))
    return tuple(found)


def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    """A C function of ggml with its types."""
    function = library[name]  # by item, each call gives an object of its own, so that nobody else's types change
    function.restype, function.argtypes = result, list(arguments)
    return function
