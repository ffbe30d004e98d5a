import msgspec
import pytest

from potstill.contract.system.machine import Machine, cpu, difference

MADE = Machine(onnxruntime="1.31.1", tokenizers="0.22.2", numpy="2.4.6", cpu="AMD EPYC", flags=["avx2", "avx512_vnni", "fma"])


def test_a_machine_differs_from_itself_in_nothing():
    assert difference(MADE, MADE) == ""


def test_another_model_name_with_the_same_kernels_is_no_difference():
    assert difference(MADE, msgspec.structs.replace(MADE, cpu="Intel Xeon")) == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"onnxruntime": "1.30.0"}, "onnxruntime is 1.30.0, the bundle was made with 1.31.1"),
        ({"tokenizers": "0.21.0"}, "tokenizers is 0.21.0, the bundle was made with 0.22.2"),
        (
            {"cpu": "Old", "flags": ["avx2", "fma"]},
            "the kernels are those of Old, the bundle was made on AMD EPYC (without avx512_vnni)",
        ),
        (
            {"numpy": "3.0", "cpu": "N1", "flags": ["asimddp"]},
            "numpy is 3.0, the bundle was made with 2.4.6; the kernels are those of N1, the bundle was made on AMD EPYC "
            "(without avx2, avx512_vnni, fma; with asimddp)",
        ),
    ],
)
def test_what_differs_is_named(changes, told):
    assert difference(MADE, msgspec.structs.replace(MADE, **changes)) == told


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (
            "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 fma vme\nprocessor\t: 1\nflags\t: fpu\n",
            ("AMD EPYC", ["avx2", "fma"]),
        ),
        ("processor\t: 0\nFeatures\t: fp asimd evtstrm asimddp i8mm\n", ("", ["asimd", "asimddp", "i8mm"])),
        ("", ("", [])),
    ],
)
def test_the_cpu_is_read_as_the_kernel_tells_of_it(tmp_path, lines, found):
    (tmp_path / "cpuinfo").write_text(lines)
    assert cpu(tmp_path / "cpuinfo") == found


def test_where_the_kernel_tells_nothing_nothing_is_known(tmp_path):
    assert cpu(tmp_path / "none") == ("", [])
