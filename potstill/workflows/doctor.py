"""What this machine has, what the installed libraries can do with it, and what is wrong, in plain words.

It runs where parts are not installed. llama.cpp is asked in a child process: one that was compiled for another CPU dies when used.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import msgspec

from potstill.contract.system import machine
from potstill.contract.system.child_process import environment
from potstill.contract.system.machine import cpu, cpu_name, free_memory_bytes, memory_bytes, usable_cores
from potstill.models.catalog import cache_folder
from potstill.models.devices import LlamaBuild, fitting_backend, install_command
from potstill.models.memory import megabytes

LIBRARIES = {
    "onnxruntime": "serve",
    "torch": "train",
    "transformers": "train",
    "optimum": "optimum",
}  # and the extra that brings each
LLAMA, LLAMA_EXTRA = "llama-cpp-python", "label"
LITTLE_DISK_BYTES = 5_000_000_000  # less is too little to fetch and re-pack a teacher of a few billion weights
LITTLE_MEMORY_BYTES = 1_000_000_000  # less is too little to train, or for any teacher but the smallest
VECTOR_SETS = {"avx2": "AVX2", "avx512f": "AVX512", "asimd": "NEON"}  # of a CPU, and what a build calls it that uses it
_ASK = (
    "import sys, msgspec; from potstill.models.devices import installed_llama; "
    "sys.stdout.buffer.write(msgspec.json.encode(installed_llama()))"
)
_ASK_S = 120.0


@dataclass(frozen=True)
class Checkup:
    """What was found, in groups of lines, and what is wrong."""

    groups: dict[str, list[tuple[str, str]]]  # name and finding, by heading
    problems: list[str]  # one sentence each

    def as_text(self) -> str:
        """The groups, then the problems, or that there are none."""
        width = max(len(name) for rows in self.groups.values() for name, _ in rows)
        lines: list[str] = []
        for heading, rows in self.groups.items():
            lines += [heading, *(f"  {name:<{width}}  {found}" for name, found in rows), ""]
        return "\n".join([*lines, "problems", *(f"  - {problem}" for problem in self.problems or ["none found"])])


@dataclass(frozen=True)
class LlamaAnswer:
    """What asking the installed llama.cpp gave: its build, or why there is none."""

    build: LlamaBuild | None
    failure: str = ""  # one line; empty where it is not installed at all


def checkup() -> Checkup:
    """Look at this machine and at what is installed; nothing is changed."""
    answer = ask_llama()
    groups = {
        "machine": _machine_rows(),
        "llama.cpp": _llama_rows(answer),
        "libraries": [(name, installed_version(name, extra)) for name, extra in LIBRARIES.items()],
        "kept between runs": kept_rows(),
    }
    return Checkup(groups, [*machine_problems(), *llama_problems(answer)])


def ask_llama(python: str = sys.executable) -> LlamaAnswer:
    """Ask llama.cpp what it is, in a process of its own.

    Args:
        python: the interpreter, in whose packages it is looked for.
    """
    if importlib.util.find_spec("llama_cpp") is None:
        return LlamaAnswer(None)
    try:
        done = subprocess.run([python, "-c", _ASK], env=environment(), capture_output=True, timeout=_ASK_S, check=False)
    except subprocess.TimeoutExpired:
        return LlamaAnswer(None, f"gave no answer in {_ASK_S:.0f} s")
    if done.returncode < 0:
        return LlamaAnswer(None, f"dies of signal {-done.returncode} when it is used: it was compiled for another CPU")
    if done.returncode > 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return LlamaAnswer(None, f"cannot be loaded: {''.join(last)}")
    return LlamaAnswer(msgspec.json.decode(done.stdout, type=LlamaBuild))


def kept_rows() -> list[tuple[str, str]]:
    """What earlier runs left outside the folders that they were given: name and size, with the place; and how to delete it."""
    places = [machine.user_cache_folder(), cache_folder()]
    folders = dict.fromkeys(place for place in places if place and os.access(place, os.R_OK | os.X_OK) and place.is_dir())
    rows = []
    for folder in folders:
        for entry in sorted(folder.iterdir()):
            if entry not in folders:  # the models' folder is told by what is in it
                rows.append((entry.name, f"{megabytes(_size_bytes(entry))} in {folder}"))
    if not rows:
        return [("nothing", "outside the folders that you name")]
    outer = [folder for folder in folders if not any(other in folder.parents for other in folders)]
    return [*rows, ("to delete it all", f"rm -r {shlex.join(map(str, outer))}")]


def _size_bytes(place: Path) -> int:
    """Bytes of a file, or of all files in a folder; what goes away meanwhile counts nothing."""
    found = 0
    for one in (place, *place.rglob("*")):
        with suppress(OSError):
            found += one.lstat().st_size if not one.is_dir() else 0
    return found


def installed_version(name: str, extra: str) -> str:
    """The version of a library, or how to install it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"not installed; pip install 'potstill[{extra}]'"


def machine_problems() -> Iterator[str]:
    """What is wrong with the machine, a sentence each."""
    free = free_memory_bytes()
    if free < LITTLE_MEMORY_BYTES:
        yield f"only {megabytes(free)} of memory are free: stop other programs, or take the smallest teacher"
    place = _existing(cache_folder())
    if not os.access(place, os.W_OK):
        yield f"models cannot be kept in {cache_folder()}: {place} is not writable; name another folder in POTSTILL_MODELS"
    elif (disk := shutil.disk_usage(place).free) < LITTLE_DISK_BYTES:
        yield f"only {megabytes(disk)} are free where models are kept, {cache_folder()}; name another folder in POTSTILL_MODELS"
    cores = usable_cores()
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > cores:
        yield f"other programs keep the cores busy (load {load:.1f} on {cores} usable): everything takes longer beside them"
    if os.environ.get("OMP_WAIT_POLICY", "").lower() == "active":
        yield "OMP_WAIT_POLICY is active: threads that wait keep their cores, and starve each other beside other programs; unset it"


def llama_problems(answer: LlamaAnswer) -> Iterator[str]:
    """What is wrong with the installed llama.cpp, a sentence each."""
    again = f"pip install --force-reinstall --no-deps --no-cache-dir --no-binary {LLAMA} {LLAMA}"
    if answer.failure:
        yield f"{LLAMA} {answer.failure}; compile it for this machine with: {again}"
        return
    if answer.build is None:
        yield f"{LLAMA} is not installed, so no teacher labels in this process: pip install 'potstill[{LLAMA_EXTRA}]'"
        return
    build, flags = answer.build, cpu()[1]
    unused = [name for flag, name in VECTOR_SETS.items() if flag in flags and name not in build.cpu_features]
    if unused:
        slow = f"{LLAMA} makes no use of this CPU's {', '.join(unused)}, which makes it slow"
        yield f"{slow}; compile it here with: {again}=={build.version}"
    suited = fitting_backend()
    if suited and not build.gpu_backends:
        yield f"there is a driver for a GPU, and {LLAMA} computes on the CPU only; {install_command(suited, build.version)}"
    elif build.gpu_backends and not build.gpus:
        yield f"{LLAMA} has {', '.join(build.gpu_backends)} but finds no device; check the driver"


def _machine_rows() -> list[tuple[str, str]]:
    """The machine."""
    name, flags = cpu()
    place = _existing(cache_folder())
    return [
        ("CPU", f"{name or cpu_name()}, {usable_cores()} usable of {os.cpu_count()} cores"),
        ("instructions", ", ".join(flags) or "not known"),
        ("memory", f"{megabytes(memory_bytes())}, {megabytes(free_memory_bytes())} free"),
        ("models are kept in", f"{cache_folder()}, {megabytes(shutil.disk_usage(place).free)} free"),
        ("Python", f"{sys.version.split()[0]} on {sys.platform}"),
    ]


def _llama_rows(answer: LlamaAnswer) -> list[tuple[str, str]]:
    """The installed llama.cpp, and how to get one that can do more."""
    if answer.build is None:
        return [("build", answer.failure or f"not installed; pip install 'potstill[{LLAMA_EXTRA}]'")]
    build = answer.build
    rows = [
        ("build", f"{LLAMA} {build.version}, {' and '.join(build.gpu_backends) or 'CPU only: no Metal, CUDA or Vulkan'}"),
        ("compiled for", ", ".join(build.cpu_features) or "any CPU"),
    ]
    for gpu in build.gpus:
        rows.append((gpu.name, f"{gpu.description}, {megabytes(gpu.free_bytes)} of {megabytes(gpu.total_bytes)} free"))
    if not build.gpu_backends:
        suited = fitting_backend()
        rows += [(f"with {name}", install_command(name, build.version)) for name in ([suited] if suited else ["CUDA", "Vulkan"])]
    return rows


def _existing(folder: Path) -> Path:
    """The folder, or the nearest of its parents that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())
