"""What this machine's processor can do that decides how int8 products are computed."""

from __future__ import annotations

from pathlib import Path

# In the words of /proc/cpuinfo. With one of VNNI, sums of int8 products have 32 bits; the other x86 processors add pairs in 16.
VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
DOT_PRODUCTS = frozenset({"asimddp", "i8mm"})  # what ARM calls its instructions that do the same
TOLD = VNNI | DOT_PRODUCTS | {"avx2", "avx512f"}


def flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The processor's flags that bear on int8, in order of name; empty where the file is not there."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return sorted(TOLD.intersection(found))


def sums_are_exact(cpu_flags: list[str]) -> bool:
    """Whether products of weights of full range cannot overflow on a processor with these flags."""
    return not (VNNI | DOT_PRODUCTS).isdisjoint(cpu_flags)
