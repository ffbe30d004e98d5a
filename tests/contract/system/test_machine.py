import os

import msgspec
import pytest

from potstill.contract.system import machine
from potstill.contract.system.machine import Machine, cgroup_cores, cpu, cpu_name, difference, usable_cores

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


def test_without_cpuinfo_nothing_is_known_and_the_name_is_the_architecture(tmp_path, monkeypatch):
    assert cpu(tmp_path / "none") == ("", [])
    monkeypatch.setattr(machine, "cpu", lambda: ("", []))
    assert cpu_name() == os.uname().machine


def test_usable_cores_are_at_most_those_that_the_process_may_run_on():
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def test_affinity_is_respected():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def a_root(tmp_path, own: str, files: dict[str, str]):
    root = tmp_path / "cgroup"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (tmp_path / "own").write_text(own)
    return root, tmp_path / "own"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, float("inf")),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),
        ("0::/../elsewhere\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("4:cpu,cpuacct:/x\n", {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ("4:cpu,cpuacct:/x\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, float("inf")),
        ("", {}, float("inf")),
    ],
)
def test_the_tightest_quota_on_the_way_up_counts(tmp_path, own, files, cores):
    assert cgroup_cores(*a_root(tmp_path, own, files)) == cores
