from dataclasses import replace

import pytest

from potstill.contract.errors import UserError
from potstill.models.devices import (
    RESERVE_BYTES,
    Gpu,
    LlamaBuild,
    fitting_backend,
    install_command,
    installed_llama,
    n_layers,
    placement,
    share_in_ram,
)
from potstill.models.gguf import Header
from potstill.models.memory import memory_needed

SIZES = {"block_count": 9, "embedding_length": 64, "feed_forward_length": 128, "attention.head_count": 8}
HEADER = Header("llama", 1024, 1, 10, None, "", weights_bytes=10**9, n_vocab=1000, sizes=SIZES)
NEED = memory_needed(HEADER, 4096)
CPU_ONLY = LlamaBuild("0.3.36", (), (), ("AVX2",))


def a_build(free_bytes: int, shares_ram: bool = False) -> LlamaBuild:
    return LlamaBuild("0.3.36", ("CUDA",), (Gpu("CUDA0", "A Card", free_bytes, 8 * 10**9, shares_ram),), ("AVX2",))


def test_the_installed_llama_cpp_says_what_it_is():
    build = installed_llama()
    assert build.version.count(".") == 2
    assert all(feature == feature.upper() for feature in build.cpu_features)
    assert bool(build.gpus) <= bool(build.gpu_backends)


def test_without_a_gpu_auto_means_none_and_says_nothing():
    assert placement("auto", HEADER, CPU_ONLY) == placement(0, HEADER, CPU_ONLY) == placement(0, HEADER, a_build(10**10))
    assert placement("auto", HEADER, CPU_ONLY).n_gpu_layers == 0


def test_auto_puts_all_layers_on_a_gpu_that_holds_them():
    placed = placement("auto", HEADER, a_build(RESERVE_BYTES + NEED.total_bytes + 1))
    assert placed.n_gpu_layers == placed.n_off_ram == n_layers(HEADER) == 10
    assert placed.told == "10 of 10 layers are on CUDA0 (A Card, 1.5 GB free)"


def test_auto_puts_as_many_layers_on_a_gpu_as_fit_beside_the_work_space_and_says_so_in_one_line():
    half = RESERVE_BYTES + NEED.compute_bytes + (NEED.weights_bytes + NEED.cache_bytes) // 2 + 1
    placed = placement("auto", HEADER, a_build(half))
    assert placed.n_gpu_layers == 5
    assert placed.told == ("5 of 10 layers are on CUDA0 (A Card, 1.0 GB free), the others on the CPU: all of them need 1.0 GB")
    assert placement("auto", HEADER, a_build(1000)).n_gpu_layers == 0


def test_a_number_of_layers_is_taken_as_it_is_and_more_than_there_are_means_all():
    assert placement(3, HEADER, a_build(0)).n_gpu_layers == 3
    assert placement(99, HEADER, a_build(0)).n_gpu_layers == 10


def test_layers_on_a_gpu_with_the_machines_memory_still_need_it():
    assert placement(5, HEADER, a_build(10**9, shares_ram=True)).n_off_ram == 0
    left = share_in_ram(NEED, placement(5, HEADER, a_build(10**9)).n_off_ram, HEADER)
    assert (left.weights_bytes, left.compute_bytes) == (NEED.weights_bytes // 2, NEED.compute_bytes)


def test_a_build_without_a_gpu_refuses_a_wish_for_layers_with_the_command_that_installs_one_that_has(monkeypatch):
    monkeypatch.setattr("potstill.models.devices.fitting_backend", lambda: "Vulkan")
    with pytest.raises(UserError) as error:
        placement(20, HEADER, CPU_ONLY)
    assert str(error.value) == (
        "--gpu-layers 20: the installed llama.cpp (0.3.36) computes on the CPU only; leave out --gpu-layers, or install one that has "
        'a GPU: CMAKE_ARGS="-DGGML_VULKAN=on" pip install --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python '
        "llama-cpp-python==0.3.36 (potstill doctor shows more)"
    )


def test_a_build_that_finds_no_device_refuses_with_what_to_check():
    with pytest.raises(UserError) as error:
        placement(20, HEADER, replace(a_build(0), gpus=()))
    assert str(error.value) == (
        "--gpu-layers 20: the installed llama.cpp (0.3.36) has CUDA but finds no device; check the driver, or leave out --gpu-layers"
    )


@pytest.mark.parametrize(
    ("platform", "trace", "backend"),
    [
        ("darwin", None, "Metal"),
        ("linux", "proc/driver/nvidia", "CUDA"),
        ("linux", "dev/kfd", "HIP"),
        ("linux", "dev/dri/renderD128", "Vulkan"),
        ("linux", None, None),
    ],
)
def test_the_backend_that_suits_a_machine_is_told_by_its_drivers(tmp_path, platform, trace, backend):
    if trace:
        (tmp_path / trace).mkdir(parents=True)
    assert fitting_backend(platform, tmp_path) == backend


def test_each_backend_has_its_own_switch():
    for backend, switch in {"CUDA": "CUDA", "HIP": "HIP", "Metal": "METAL", "Vulkan": "VULKAN"}.items():
        assert f"-DGGML_{switch}=on" in install_command(backend, "0.3.36")
