from __future__ import annotations

import pytest

from export.cpu import flags, sums_are_exact

X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse2 {} avx2\n\nprocessor\t: 1\n"


@pytest.mark.parametrize(
    ("text", "expected", "exact"),
    [
        (X86.format("fma"), ["avx2"], False),
        (X86.format("avx512f avx512_vnni"), ["avx2", "avx512_vnni", "avx512f"], True),
        (X86.format("avx_vnni"), ["avx2", "avx_vnni"], True),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n", ["asimddp", "i8mm"], True),
        ("", [], False),
    ],
)
def test_flags_that_bear_on_int8_are_read_and_full_range_needs_one_that_adds_exactly(tmp_path, text, expected, exact):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert flags(path) == expected
    assert sums_are_exact(flags(path)) == exact


def test_a_system_without_the_file_has_no_flags(tmp_path):
    assert flags(tmp_path / "none") == []
