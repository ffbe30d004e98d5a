"""The machine that a process runs on: cores and memory that it may use, its CPU, and the versions that can move a probability."""

from __future__ import annotations

import os
from pathlib import Path

from potstill.contract.files.decode import Strict

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
PROGRAM = "potstill"
NO_LIMIT = 2**60  # bytes; version 1 of cgroups writes "no limit" as a number near 2^63

# Instruction sets by which onnxruntime picks a kernel, as /proc/cpuinfo names them. No other CPU flag changes a result.
KERNEL_FLAGS = frozenset(
    "avx avx2 fma avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 amx_int8 amx_tile amx_bf16 "  # x86
    "asimd asimddp asimdhp i8mm bf16 sve sve2 svei8mm sme sme2".split()  # ARM
)


class Machine(Strict):
    """The versions and the CPU, as far as they can move the last bits of a probability. `bundle.json` stores one."""

    onnxruntime: str
    tokenizers: str
    numpy: str
    cpu: str  # model name, or the architecture
    flags: list[str]  # those of KERNEL_FLAGS that the CPU has, sorted


def difference(made: Machine, here: Machine) -> str:
    """Say how this machine differs from the one that made a bundle; empty if no difference could move a probability."""
    differences = [
        f"{name} is {getattr(here, name)}, the bundle was made with {getattr(made, name)}"
        for name in ("onnxruntime", "tokenizers", "numpy")
        if getattr(here, name) != getattr(made, name)
    ]
    lacks, adds = sorted(set(made.flags) - set(here.flags)), sorted(set(here.flags) - set(made.flags))
    if lacks or adds:
        kernels = f"the kernels are those of {here.cpu}, the bundle was made on {made.cpu}"
        flags = [f"without {', '.join(lacks)}"] if lacks else []
        flags += [f"with {', '.join(adds)}"] if adds else []
        differences.append(f"{kernels} ({'; '.join(flags)})")
    return "; ".join(differences)


def cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, list[str]]:
    """The CPU's model name (empty if the file has none) and its flags among `KERNEL_FLAGS`, sorted."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", []
    values = {name.strip(): value.strip() for name, _, value in reversed([line.partition(":") for line in lines])}
    flags = values.get("flags", values.get("Features", "")).split()
    return values.get("model name", ""), sorted(KERNEL_FLAGS & set(flags))


def cpu_name() -> str:
    """The CPU's model name, or its architecture where the system does not say."""
    return cpu()[0] or os.uname().machine


def usable_cores() -> int:
    """Whole cores that this process may use, at least 1: by its CPU affinity and its cgroup's quota, not by what is built in."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(affinity, cgroup_cores(CGROUP, OWN_CGROUP))))


def cgroup_cores(root: Path, own: Path) -> float:
    """Cores allowed by the tightest quota among the process's cgroup and its parents; infinite without a quota.

    Args:
        root: where the cgroup file system is mounted.
        own: the file that lists the process's cgroups.
    """
    return min((_quota(place) for place in _groups(root, own, "cpu", "cpu,cpuacct")), default=float("inf"))


def free_memory_bytes() -> int:
    """Memory that this process can still take without swapping: of the machine, and of its cgroup and that one's parents.

    Memory that holds copies of files counts as free, as the system drops them when it is asked for more. Where the system does not
    say what is free, it is all the memory there is.
    """
    return min(_available(_text(MEMINFO)), cgroup_free_bytes(CGROUP, OWN_CGROUP))


def memory_bytes() -> int:
    """Memory of the machine, or the tightest limit among the process's cgroup and its parents, if that is less."""
    limits = [_bytes(place, "memory.max", "memory.limit_in_bytes") for place in _groups(CGROUP, OWN_CGROUP, "memory")]
    return min([_physical_bytes(), *(limit for limit in limits if limit is not None)])


def cgroup_free_bytes(root: Path, own: Path) -> int:
    """Memory that the tightest of the process's cgroup and its parents still allows; very large without a limit.

    Args:
        root: where the cgroup file system is mounted.
        own: the file that lists the process's cgroups.
    """
    return min((_free(place) for place in _groups(root, own, "memory")), default=NO_LIMIT)


def _free(group: Path) -> int:
    """Memory that one cgroup still allows: its limit without what is used, but for copies of files, which can be dropped."""
    limit = _bytes(group, "memory.max", "memory.limit_in_bytes")
    used = _bytes(group, "memory.current", "memory.usage_in_bytes")
    if limit is None or used is None:
        return NO_LIMIT
    counts = dict(line.split(" ", 1) for line in _text(group / "memory.stat").splitlines() if " " in line)
    prefix = "" if "inactive_file" in counts and (group / "memory.max").is_file() else "total_"
    dropped = sum(int(counts.get(f"{prefix}{name}_file", "0")) for name in ("inactive", "active"))
    return max(0, limit - max(0, used - dropped))


def _bytes(group: Path, *names: str) -> int | None:
    """The number in the first of the files that has one; None without, or where it stands for no limit."""
    for name in names:
        found = _text(group / name).strip()
        if found.isdigit() and int(found) < NO_LIMIT:
            return int(found)
    return None


def _available(meminfo: str) -> int:
    """Bytes that the system calls available; without the file, all there are."""
    values = {name: value.split() for name, _, value in (line.partition(":") for line in meminfo.splitlines())}
    found = values.get("MemAvailable", [])
    return int(found[0]) * 1024 if found and found[0].isdigit() else _physical_bytes()


def _physical_bytes() -> int:
    """Bytes of memory that are built in."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups(root: Path, own: Path, *controllers: str) -> set[Path]:
    """Folders of the process's cgroups and their parents: of version 2, and of version 1 with one of those controllers."""
    places = {root, root / controllers[0]}
    for line in _text(own).splitlines():
        _, controller, path = line.split(":", 2)
        if controller in ("", *controllers):
            group = root / controller / path.lstrip("/")
            places.update([group, *group.parents])
    return {place for place in places if place.is_relative_to(root)}


def user_cache_folder() -> Path | None:
    """The folder for what can be made again: `potstill` in `XDG_CACHE_HOME`, or in `~/.cache`; None for a user without a home.

    Such a user is one whom the system does not know, with `HOME` unset: a container started with a number as its user. Nothing is
    put into a folder that all users share, where another user could leave a file for this one to read.
    """
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / PROGRAM
    try:
        return Path.home() / ".cache" / PROGRAM
    except RuntimeError:  # how Path.home() says that there is none
        return None


def _quota(group: Path) -> float:
    """Cores of one cgroup: `cpu.max` of version 2, or the two files of version 1; infinite without a quota."""
    fields = _text(group / "cpu.max").split() or [
        _text(group / "cpu.cfs_quota_us").strip(),
        _text(group / "cpu.cfs_period_us").strip(),
    ]
    quota, period = fields
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else float("inf")


def _text(path: Path) -> str:
    """The file's text; empty if there is no such file."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
