"""Whether this machine's processor adds int8 products without overflow."""

from __future__ import annotations

from collections.abc import Collection

# In the words of /proc/cpuinfo. With one of VNNI, sums of int8 products have 32 bits; the other x86 processors add pairs in 16.
VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
DOT_PRODUCTS = frozenset({"asimddp", "i8mm"})  # what ARM calls its instructions that do the same


def sums_are_exact(flags: Collection[str]) -> bool:
    """Whether products of full-range weights cannot overflow on a processor with these flags, see `contract/system/machine.py`."""
    return not (VNNI | DOT_PRODUCTS).isdisjoint(flags)
