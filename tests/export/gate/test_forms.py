from __future__ import annotations

import msgspec
import pytest
from support.quantizable import FORM

from potstill.contract.system.machine import KERNEL_FLAGS
from potstill.export.gate.forms import DOT_PRODUCTS, VNNI, fastest, has_int32_sums


def forms(*rows):
    return [
        msgspec.structs.replace(FORM, variant=name, ms_p50=ms, bytes=size, problem="" if passed else "no")
        for name, ms, size, passed in rows
    ]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([("float", 9, 90, True), ("static_int8", 3, 23, True), ("float_fused", 8, 90, True)], "static_int8"),
        ([("float", 9, 90, True), ("static_int8", 3, 23, False), ("float_fused", 7, 90, True)], "float_fused"),
        ([("float", 9, 90, True), ("static_int8", 3, 23, False), ("float_fused", 10, 90, False)], "float"),
        ([("float", 1.0, 90, True), ("static_int8", 1.14, 23, True)], "static_int8"),  # a tie: the smaller file
        ([("float", 1.0, 90, True), ("static_int8", 1.16, 23, True)], "float"),
        ([("a", 1.0, 90, True), ("b", 0.9, 90, True)], "b"),  # a tie of equal size: the faster one
    ],
)
def test_the_fastest_that_passed_is_taken_and_of_equally_fast_ones_the_smallest(table, expected):
    assert fastest(forms(*table)).variant == expected


def test_where_none_passed_none_is_taken():
    assert fastest(forms(("float", 1, 1, False))) is None


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
    assert has_int32_sums(flags) == exact


def test_every_flag_that_decides_is_one_that_is_read():
    assert VNNI | DOT_PRODUCTS <= KERNEL_FLAGS
