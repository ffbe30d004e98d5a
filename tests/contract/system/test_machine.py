import os

import msgspec
import pytest

from potstill.contract.system import machine
from potstill.contract.system.machine import (
    NO_LIMIT,
    Machine,
    cgroup_cores,
    cgroup_free_bytes,
    cpu,
    cpu_name,
    difference,
    free_memory_bytes,
    memory_bytes,
    usable_cores,
)

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


@pytest.mark.parametrize(
    ("own", "files", "free"),
    [
        ("0::/\n", {}, NO_LIMIT),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "5\n"}, NO_LIMIT),
        ("0::/a\n", {"a/memory.max": "1000\n", "a/memory.current": "300\n", "memory.max": "900\n", "memory.current": "400\n"}, 500),
        (
            "0::/a\n",
            {
                "a/memory.max": "1000\n",
                "a/memory.current": "900\n",
                "a/memory.stat": "anon 1\ninactive_file 100\nactive_file 50\n",
            },
            250,
        ),
        ("0::/a\n", {"a/memory.max": "1000\n", "a/memory.current": "1200\n"}, 0),
        (
            "5:memory:/job\n3:cpu:/\n",
            {
                "memory/job/memory.limit_in_bytes": "1000\n",
                "memory/job/memory.usage_in_bytes": "900\n",
                "memory/job/memory.stat": "inactive_file 1\nactive_file 1\ntotal_inactive_file 40\ntotal_active_file 60\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/memory.usage_in_bytes": "900\n",
            },
            200,
        ),
    ],
)
def test_the_tightest_cgroup_says_how_much_memory_is_free_and_copies_of_files_count_as_free(tmp_path, own, files, free):
    assert cgroup_free_bytes(*a_root(tmp_path, own, files)) == free


def test_free_memory_is_what_the_system_calls_available(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    300 kB\n")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    assert free_memory_bytes() == 300 * 1024


def test_where_the_system_does_not_say_what_is_free_it_is_all_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert free_memory_bytes() == memory_bytes() > 0
