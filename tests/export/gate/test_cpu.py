from __future__ import annotations

import pytest

from potstill.contract.system.machine import KERNEL_FLAGS
from potstill.export.gate.cpu import DOT_PRODUCTS, VNNI, sums_are_exact


@pytest.mark.parametrize(
    ("flags", "exact"),
    [
        (["avx2", "fma"], False),
        (["avx2", "avx512bw", "avx512f"], False),
        (["avx2", "avx512_vnni"], True),
        (["avx2", "avx_vnni"], True),
        (["asimd", "asimddp"], True),
        ([], False),
    ],
)
def test_full_range_needs_a_processor_that_adds_int8_products_in_32_bits(flags, exact):
    assert sums_are_exact(flags) == exact


def test_every_flag_that_decides_is_one_that_is_read():
    assert VNNI | DOT_PRODUCTS <= KERNEL_FLAGS
